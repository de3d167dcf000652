//! Tables in directories (Postfix's ldap_table(5)).

use std::time::Duration;

use ldap3::{
    Ldap as Connection, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, dn_escape, ldap_escape,
};

use super::super::super::{Spec, TableError};
use super::super::client::Protocol;
use super::expansion::{COMMON_NAMES, Common, Template};
use super::parameters::Parameters;

pub(in super::super) struct Ldap {
    servers: Vec<String>,
    /// Name and password; `None`: an anonymous bind.
    bind: Option<(String, String)>,
    base: Template,
    scope: Scope,
    attributes: Vec<String>,
    common: Common,
    timeout: Duration,
}

/// LDAP's result code for a base that is not there (RFC 4511 appendix A).
const NO_SUCH_OBJECT: u32 = 32;

impl Ldap {
    pub(in super::super) fn parse(
        spec: &Spec<'_>,
        text: &[u8],
        timeout: Duration,
    ) -> Result<Self, TableError> {
        const NAMES: [&str; 10] = [
            "server_host",
            "server_port",
            "search_base",
            "query_filter",
            "result_attribute",
            "scope",
            "bind",
            "bind_dn",
            "bind_pw",
            "version",
        ];
        let known = [&COMMON_NAMES[..], &NAMES].concat();
        let parameters = Parameters::parse(spec, text, &known)?;
        if parameters.number("version", 3)? != 3 {
            return Err(parameters.error("version", "only version 3 is supported", "remove it"));
        }
        let port = parameters.number("server_port", 389)?;
        let servers = parameters.list("server_host", "localhost").into_iter().map(|server| {
            match server.split_once("://") {
                Some(("ldap" | "ldapi", _)) => Ok(server),
                Some(_) => Err(parameters.error(
                    "server_host",
                    &format!("{server}: unknown scheme"),
                    "write ldap:// or ldapi://",
                )),
                None if server.contains(':') => Ok(format!("ldap://{server}")),
                None => Ok(format!("ldap://{server}:{port}")),
            }
        });
        let yes_or_no = [("yes", true), ("simple", true), ("no", false), ("none", false)];
        let is_bound = choice(&parameters, "bind", &yes_or_no, true)?;
        let name = parameters.text("bind_dn", "");
        let password = parameters.text("bind_pw", "");
        let scopes = [("sub", Scope::Subtree), ("base", Scope::Base), ("one", Scope::OneLevel)];
        let filter = parameters.text("query_filter", "(mailacceptinggeneralid=%s)");
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            bind: (is_bound && !name.is_empty()).then(|| (name.to_owned(), password.to_owned())),
            base: Template::parse(&parameters, "search_base", parameters.needed("search_base")?)?,
            scope: choice(&parameters, "scope", &scopes, Scope::Subtree)?,
            attributes: parameters.list("result_attribute", "maildrop"),
            common: Common::new(&parameters, "query_filter", filter)?,
            timeout,
        })
    }
}

impl Protocol for Ldap {
    type Connection = Connection;
    /// Base and filter.
    type Question = (String, String);

    fn question(&self, key: &[u8]) -> Option<(String, String)> {
        let filter = self.common.query(key, |text| ldap_escape(text).into_owned())?;
        let text = std::str::from_utf8(key).ok()?;
        Some((self.base.expand(text, text, |text| dn_escape(text).into_owned())?, filter))
    }

    async fn connect(&self) -> Result<Connection, String> {
        connect(self).await
    }

    async fn ask(
        &self,
        mut connection: Connection,
        (base, filter): (String, String),
        key: &[u8],
    ) -> Result<(Connection, Option<Vec<u8>>), String> {
        let found = connection.search(&base, self.scope, &filter, &self.attributes).await;
        let found = found.map_err(|error| error.to_string())?;
        if found.1.rc == NO_SUCH_OBJECT {
            return Ok((connection, None));
        }
        let (entries, _) = found.success().map_err(|error| error.to_string())?;
        let entries: Vec<SearchEntry> = entries.into_iter().map(SearchEntry::construct).collect();
        let mut values = Vec::new();
        for entry in &entries {
            for wanted in &self.attributes {
                let given = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                values.extend(given.flat_map(|(_, values)| values.iter().map(String::as_str)));
            }
        }
        Ok((connection, self.common.value(key, values.into_iter())?))
    }
}

/// What one of a few words stands for.
fn choice<T: Copy>(
    parameters: &Parameters<'_, '_>,
    name: &str,
    choices: &[(&str, T)],
    default: T,
) -> Result<T, TableError> {
    let word = parameters.text(name, "");
    if word.is_empty() {
        return Ok(default);
    }
    let known = choices.iter().find(|(known, _)| *known == word);
    known.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        parameters.error(name, &format!("{word:?} is not one of {}", words.join(", ")), "write one of them")
    })
}

/// A connection to the first server that takes one.
async fn connect(search: &Ldap) -> Result<Connection, String> {
    let mut reason = "no server is named".to_owned();
    for server in &search.servers {
        let settings = LdapConnSettings::new().set_conn_timeout(search.timeout);
        match LdapConnAsync::with_settings(settings, server).await {
            Ok((driver, mut connection)) => {
                // Ends with the connection.
                tokio::spawn(driver.drive());
                if let Some((name, password)) = &search.bind {
                    let bound =
                        connection.simple_bind(name, password).await.and_then(|result| result.success());
                    bound.map_err(|error| format!("{server}: {error}"))?;
                }
                return Ok(connection);
            }
            Err(error) => reason = format!("{server}: {error}"),
        }
    }
    Err(reason)
}
