//! The console blocks of README.md and docs/operations.md, run as a reader would.
//!
//! Each file is a story in a directory of its own:
//!
//! - A block of `toml` that begins with `# NAME` is the file NAME. A comment after a value `TYPE:FILE` in it is the content of
//!   FILE.
//! - In a block of `console` a line that begins with `$ ` is a command for `sh`; the lines up to the next one are what it
//!   prints, standard error included. A line `...` stands for any number of lines.
//! - `cargo run --release -- serve` is `mailrace serve`, and `cargo build` does nothing.
//! - `serve` runs in the background until its section ends, on free ports instead of 2525 and 9925, with its queue in
//!   `./mailrace-queue`; its lines are the first ones that it logs.
//!
//! What a reader sees and what the file has are compared after [`Normaliser`] has put placeholders for what differs each
//! time. Queue ids in commands are those that the lines before have in the place of the file's.

#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use mailrace_tests::{Directory, program, skip};
use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A block of a file.
struct Block {
    /// Its first line, from 1.
    line: usize,
    language: String,
    /// The heading above it.
    section: String,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut section, mut is_inside) = (String::new(), false);
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_inside => is_inside = false,
            Some(language) => {
                is_inside = true;
                let (language, section) = (language.to_owned(), section.clone());
                blocks.push(Block { line: index + 2, language, section, lines: Vec::new() });
            }
            None if is_inside => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None if line.starts_with("## ") => section = line.to_owned(),
            None => {}
        }
    }
    blocks
}

/// A command of a block, and what it prints.
struct Step {
    line: usize,
    section: String,
    command: String,
    wanted: Vec<String>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, text) in block.lines.iter().enumerate() {
        if let Some(command) = text.strip_prefix("$ ") {
            let (line, section) = (block.line + index, block.section.clone());
            steps.push(Step { line, section, command: command.to_owned(), wanted: Vec::new() });
        } else {
            steps.last_mut().expect("a block of console begins with a command").wanted.push(text.clone());
        }
    }
    steps
}

/// Puts placeholders for what differs each time.
struct Normaliser(Vec<(Regex, &'static str)>);

impl Normaliser {
    fn new() -> Self {
        let rules = [
            // Times, as the log, header fields and message ids have them.
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME"),
            (r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4} \([^)]*\)", "DATE"),
            (r"\b20\d{12}\.", "STAMP."),
            // Queue ids.
            (r"\b[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz]{12}\b", "ID"),
            // Names of machines, and sizes that depend on these.
            (r"by \S+ \(Mailrace\)", "by HOST (Mailrace)"),
            (r"ID@[^>]+>", "ID@HOST>"),
            (r"\(\S+ \[127\.0\.0\.1\]\)", "(HOST [127.0.0.1])"),
            (r"(client=|\x22client\x22:\x22)[^\[]*\[127\.0\.0\.1\]:\d+", "${1}HOST[127.0.0.1]:PORT"),
            (r"\b\d+ bytes", "N bytes"),
            (r"(size=|commit_us=|\x22size\x22:|\x22commit_us\x22:|\x22octets\x22:)\d+", "${1}N"),
            (r"TIME +\d+ ", "TIME N "),
            // Processors, directories, durations, versions, and how the program was built.
            (r"\b\d+ workers?\b", "N workers"),
            (r"\x22workers\x22:\d+", "\"workers\":N"),
            (r"[^ \x22]*/mailrace-queue", "DIR/mailrace-queue"),
            (r"\bin \d+(\.\d+)? ?m?s\b", "in N s"),
            (r"version=\x22[^\x22]*\x22,features=\x22[^\x22]*\x22,profile=\x22[a-z]*\x22", "BUILD"),
            (r"mailrace_io_info\{io=\x22[a-z]*\x22\}", "mailrace_io_info{io=IO}"),
        ];
        Self(rules.into_iter().map(|(rule, place)| (Regex::new(rule).unwrap(), place)).collect())
    }

    fn apply(&self, line: &str) -> String {
        let line = line.trim_end();
        self.0
            .iter()
            .fold(line.to_owned(), |line, (rule, place)| rule.replace_all(&line, *place).into_owned())
    }
}

/// Whether `got` is what is `wanted`, in which `...` stands for any lines.
fn matches(wanted: &[String], got: &[String]) -> bool {
    match (wanted.split_first(), got.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            (0..=got.len()).any(|skipped| matches(rest, &got[skipped..]))
        }
        (Some((first, wanted)), Some((line, got))) => first == line && matches(wanted, got),
        _ => false,
    }
}

/// A line about this machine, which the file cannot have.
fn is_about_machine(line: &str) -> bool {
    line.contains("set directory in [queue] to one on a local disk") || line.contains("epoll is used, which")
}

/// A file that is being played.
struct Story {
    directory: Directory,
    path: String,
    ports: [(String, String); 2],
    normaliser: Normaliser,
    id: Regex,
    /// The file's queue ids, and those that were given instead.
    ids: HashMap<String, String>,
    server: Option<Server>,
}

struct Server {
    section: String,
    child: Child,
    /// Open until the end: closed, it would be something else than a reader has.
    _errors: BufReader<ChildStderr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Story {
    fn new() -> Self {
        let directory = Directory::new();
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).unwrap();
        symlink(program(), programs.join("mailrace")).unwrap();
        let cargo = programs.join("cargo");
        fs::write(&cargo, "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec mailrace \"$@\"\n").unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [free(), free()];
        let [mail, metrics] = listeners.map(|listener| listener.local_addr().unwrap().port().to_string());
        let ports = [("2525".to_owned(), mail), ("9925".to_owned(), metrics)];
        let id = Regex::new(r"\b[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz]{12}\b").unwrap();
        Self { directory, path, ports, normaliser: Normaliser::new(), id, ids: HashMap::new(), server: None }
    }

    /// Plays a whole file.
    fn play(&mut self, file: &str) {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        let mut count = 0;
        for block in blocks(&text) {
            if self.server.as_ref().is_some_and(|server| server.section != block.section) {
                self.server.take().unwrap().stop();
            }
            match block.language.as_str() {
                "toml" => self.write_files(&block),
                "console" => {
                    for step in steps(&block) {
                        self.take(file, &step);
                        count += 1;
                    }
                }
                _ => {}
            }
        }
        if let Some(server) = self.server.take() {
            server.stop();
        }
        assert!(count > 0, "{file} has no block of console");
    }

    fn write_files(&self, block: &Block) {
        let Some(name) = block.lines.first().and_then(|line| line.strip_prefix("# ")) else { return };
        let write = |name: &str, text: &str| fs::write(self.directory.path().join(name), text).unwrap();
        write(name, &block.lines.join("\n"));
        let table = Regex::new(r#""[a-z]+:([a-z_]+)"\] +# (.*)$"#).unwrap();
        for line in &block.lines {
            if let Some(found) = table.captures(line) {
                write(&found[1], &format!("{}\n", &found[2]));
            }
        }
    }

    fn take(&mut self, file: &str, step: &Step) {
        let mut command =
            self.ids.iter().fold(step.command.clone(), |text, (old, new)| text.replace(old, new));
        for (usual, own) in &self.ports {
            command = command.replace(usual, own);
        }
        let is_server = command.split(' ').any(|word| word == "serve");
        let said = if is_server { self.serve(&command, step) } else { self.run(&command) };
        let said = said
            .into_iter()
            .filter(|line| !is_about_machine(line))
            .map(|line| self.ports.iter().fold(line, |line, (usual, own)| line.replace(own, usual)));
        let mut said: Vec<String> = said.collect();
        // Some versions of curl send a line end more than the file has.
        while said.last().is_some_and(String::is_empty) {
            said.pop();
        }
        let [wanted, mut got] = [&step.wanted, &said]
            .map(|lines| -> Vec<String> { lines.iter().map(|line| self.normaliser.apply(line)).collect() });
        if is_server {
            got.truncate(wanted.len());
        }
        assert!(
            matches(&wanted, &got),
            "{file}:{}: {}\n--- the file has\n{}\n--- it prints\n{}\n--- which is\n{}",
            step.line,
            step.command,
            wanted.join("\n"),
            got.join("\n"),
            said.join("\n"),
        );
        let ids = |lines: &[String]| -> Vec<String> {
            lines.iter().flat_map(|line| self.id.find_iter(line)).map(|id| id.as_str().to_owned()).collect()
        };
        self.ids.extend(ids(&step.wanted).into_iter().zip(ids(&said)));
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(self.directory.path()).env("PATH", &self.path);
        shell.stdin(Stdio::null());
        shell
    }

    fn run(&self, command: &str) -> Vec<String> {
        let output = self.shell(&format!("{{ {command}\n}} 2>&1")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Starts a server; what it says until it is ready, and as many lines more as are wanted.
    fn serve(&mut self, command: &str, step: &Step) -> Vec<String> {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        let [(_, mail), (_, metrics)] = &self.ports;
        let command = format!(
            "exec {command} --listen 127.0.0.1:{mail} --queue mailrace-queue --set engine.metrics_listen=127.0.0.1:{metrics}"
        );
        let mut child = self.shell(&command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(errors.read_line(&mut line).unwrap() > 0, "{command} ended: {lines:#?}");
            let is_ready = line.contains("mailrace ready: ");
            lines.push(line.trim_end().to_owned());
            if is_ready {
                break;
            }
        }
        self.server = Some(Server { section: step.section.clone(), child, _errors: errors });
        lines
    }
}

fn play(file: &str) {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("curl is not installed (apt-get install curl)");
    }
    Story::new().play(file);
}

#[test]
fn the_readme_shows_real_output() {
    play("README.md");
}

#[test]
fn the_operations_manual_shows_real_output() {
    play("docs/operations.md");
}

#[test]
fn three_dots_match_any_lines() {
    let lines = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    for (wanted, got, is_same) in [
        ("a b", "a b", true),
        ("a b", "a c", false),
        ("a ... d", "a b c d", true),
        ("... d", "d", true),
        ("a ...", "b", false),
    ] {
        assert_eq!(matches(&lines(wanted), &lines(got)), is_same, "{wanted}: {got}");
    }
}
