//! Owns tables in directories (Postfix's ldap_table(5)).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{
    Ldap as Connection, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, dn_escape, ldap_escape,
};

use super::super::super::{Spec, TableError};
use super::super::Answer;
use super::super::client::Client;
use super::expansion::{COMMON_NAMES, Common, Template};
use super::parameters::Parameters;

pub(in super::super) struct Ldap {
    search: Arc<Search>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Search {
    servers: Vec<String>,
    /// Name and password; `None`: nobody in particular.
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
            return Err(parameters.error("version", "only version 3 is spoken", "remove it"));
        }
        let port = parameters.number("server_port", 389)?;
        let servers = parameters.list("server_host", "localhost").into_iter().map(|server| {
            match server.split_once("://") {
                Some(("ldap" | "ldapi", _)) => Ok(server),
                Some(_) => Err(parameters.error(
                    "server_host",
                    &format!("{server}: no such scheme"),
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
        let search = Search {
            servers: servers.collect::<Result<_, _>>()?,
            bind: (is_bound && !name.is_empty()).then(|| (name.to_owned(), password.to_owned())),
            base: Template::parse(&parameters, "search_base", parameters.needed("search_base")?)?,
            scope: choice(&parameters, "scope", &scopes, Scope::Subtree)?,
            attributes: parameters.list("result_attribute", "maildrop"),
            common: Common::new(&parameters, "query_filter", filter)?,
            timeout,
        };
        Ok(Self { search: Arc::new(search), connection: None })
    }

    async fn query(&mut self, key: &[u8]) -> Answer {
        let search = &self.search;
        let filter = search.common.query(key, |text| ldap_escape(text).into_owned());
        let text = std::str::from_utf8(key).unwrap_or_default();
        let base = search.base.expand(text, text, |text| dn_escape(text).into_owned());
        let (Some(filter), Some(base)) = (filter, base) else { return Ok(None) };
        let connection = match self.connection.take() {
            Some(connection) => self.connection.insert(connection),
            None => self.connection.insert(connect(search).await?),
        };
        let found = connection.search(&base, search.scope, &filter, &search.attributes).await;
        let found = found.map_err(|error| error.to_string())?;
        if found.1.rc == NO_SUCH_OBJECT {
            return Ok(None);
        }
        let (entries, _) = found.success().map_err(|error| error.to_string())?;
        let entries: Vec<SearchEntry> = entries.into_iter().map(SearchEntry::construct).collect();
        let mut values = Vec::new();
        for entry in &entries {
            for wanted in &search.attributes {
                let given = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                values.extend(given.flat_map(|(_, values)| values.iter().map(String::as_str)));
            }
        }
        search.common.value(key, values.into_iter())
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
        parameters.error(name, &format!("{word:?} is none of {}", words.join(", ")), "write one of them")
    })
}

/// A connection to the first server that takes one.
async fn connect(search: &Search) -> Result<Connection, String> {
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

impl Client for Ldap {
    fn ask<'c>(&'c mut self, key: &'c [u8]) -> Pin<Box<dyn Future<Output = Answer> + Send + 'c>> {
        Box::pin(self.query(key))
    }

    fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    fn another(&self) -> Box<dyn Client> {
        Box::new(Self { search: Arc::clone(&self.search), connection: None })
    }
}
