//! Against real servers. Each needs its Debian package and is skipped loudly without, but not with CI set.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mailrace_core::lookup::LookupError;

use crate::tables::remote::tests::{Asked, SETTINGS};

/// A directory for a server that other users may enter; removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("mailrace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text.replace("@DIR@", self.0.to_str().unwrap())).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}");
    use std::io::Write as _;
    // Standard error itself: what `eprintln!` writes in a test that passes is dropped.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

#[cfg(feature = "pgsql")]
#[test]
fn queries_a_pgsql_table() {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let Some(programs) = versions.map(|version| version.path().join("bin")).max() else {
        return skip("this test needs the package postgresql");
    };
    let place = Place::new("pgsql");
    let data = place.0.join("data");
    // The server does not run as root.
    let program = |name: &str| {
        if !rustix::process::geteuid().is_root() {
            return Command::new(programs.join(name));
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(programs.join(name));
        command.current_dir(&place.0);
        command
    };
    run(program("initdb").args(["-A", "trust", "-U", "mail", "--no-sync", "-D"]).arg(&data));
    let options = format!("-c listen_addresses='' -c fsync=off -k {}", place.0.display());
    let mut control = program("pg_ctl");
    control.args(["-w", "-s", "-o", &options, "-l"]).arg(place.0.join("log")).arg("-D").arg(&data);
    // Not to its end by its output: the server keeps that open.
    let started =
        control.arg("start").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(started.status().unwrap().success());
    let sql = "CREATE TABLE a (k text, v text, w text);
        INSERT INTO a VALUES ('o''x@y', '1', '2'), ('o''x@y', '3', NULL), ('b\\@y', '4', NULL);";
    run(program("psql").args(["-q", "-U", "mail", "-h"]).arg(&place.0).args(["-d", "postgres", "-c", sql]));
    place.write(
        "map.cf",
        "hosts = unix:@DIR@\nuser = mail\ndbname = postgres\nquery = SELECT v, w FROM a WHERE k = '%s'\n",
    );
    let table = Asked::open("pgsql:map.cf", &place.0, SETTINGS);
    assert_eq!(table.ask("o'x@y"), Ok(Some("1,2,3".to_owned())));
    assert_eq!(table.ask("b\\@y"), Ok(Some("4".to_owned())));
    assert_eq!(table.ask("x' OR '1'='1"), Ok(None));
    assert_eq!(table.ask("\\' OR 1=1 --"), Ok(None));
    run(program("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).arg(&data));
    assert_eq!(table.ask("late"), Err(LookupError::Unavailable));
}

#[cfg(feature = "ldap")]
#[test]
fn queries_an_ldap_table() {
    if !Path::new("/usr/sbin/slapd").exists() {
        return skip("this test needs the package slapd");
    }
    let place = Place::new("ldap");
    place.write(
        "slapd.conf",
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\npidfile @DIR@/pid\nmodulepath /usr/lib/ldap\n\
         moduleload back_mdb\ndatabase mdb\nsuffix dc=example\nrootdn cn=root,dc=example\nrootpw secret\n\
         directory @DIR@\naccess to * by dn.exact=cn=reader,dc=example read by anonymous auth\n",
    );
    place.write(
        "data.ldif",
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n\n\
         dn: cn=reader,dc=example\nobjectClass: person\ncn: reader\nsn: r\nuserPassword: word\n\n\
         dn: cn=a,dc=example\nobjectClass: inetOrgPerson\ncn: a\nsn: a(b)\nmail: one@example.com\n\
         mail: two@example.com\nuid: a@example.net\n",
    );
    let configuration = place.0.join("slapd.conf");
    run(Command::new("slapadd")
        .arg("-q")
        .arg("-f")
        .arg(&configuration)
        .arg("-l")
        .arg(place.0.join("data.ldif")));
    let socket = format!("ldapi://{}", place.0.join("socket").to_str().unwrap().replace('/', "%2F"));
    let mut server = Command::new("slapd");
    server.arg("-h").arg(&socket).arg("-f").arg(&configuration);
    assert!(server.status().unwrap().success());
    // It goes to the background a moment before it listens.
    let start = std::time::Instant::now();
    while std::os::unix::net::UnixStream::connect(place.0.join("socket")).is_err() {
        assert!(start.elapsed() < SETTINGS.timeout, "slapd does not listen");
        std::thread::yield_now();
    }
    let text = format!(
        "server_host = {socket}\nsearch_base = dc=example\nbind_dn = cn=reader,dc=example\nbind_pw = word\n\
         query_filter = (|(uid=%s)(sn=%s))\nresult_attribute = mail\n"
    );
    place.write("map.cf", &text);
    let table = Asked::open("ldap:map.cf", &place.0, SETTINGS);
    assert_eq!(table.ask("A@example.net"), Ok(Some("one@example.com,two@example.com".to_owned())));
    assert_eq!(table.ask("a(b)"), Ok(Some("one@example.com,two@example.com".to_owned())));
    assert_eq!(table.ask("*"), Ok(None));
    place.write("wrong.cf", &text.replace("= word", "= wrong"));
    let wrong = Asked::open("ldap:wrong.cf", &place.0, SETTINGS);
    assert_eq!(wrong.ask("a@example.net"), Err(LookupError::Unavailable));
    let pid = std::fs::read_to_string(place.0.join("pid")).unwrap();
    run(Command::new("kill").arg(pid.trim()));
}
