//! Owns the list of other people's crates that the programs are made of, with their licences: `docs/licences.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::io;
use std::process::Command;

use serde::Deserialize;

/// Why the list could not be made.
#[derive(Debug)]
pub enum LicencesError {
    /// cargo could not be started.
    Start(io::Error),
    /// cargo failed; what it said.
    Cargo(String),
    /// What cargo says is not understood.
    Metadata(serde_json::Error),
    /// These crates name no licence.
    Missing(Vec<String>),
}

impl fmt::Display for LicencesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(formatter, "cannot start cargo: {error}"),
            Self::Cargo(message) => write!(formatter, "cargo metadata failed: {message}"),
            Self::Metadata(error) => write!(formatter, "cannot parse the output of cargo metadata: {error}"),
            Self::Missing(crates) => write!(formatter, "these crates name no licence: {}", crates.join(", ")),
        }
    }
}

impl std::error::Error for LicencesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => Some(error),
            Self::Metadata(error) => Some(error),
            Self::Cargo(_) | Self::Missing(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `dev`, `build`, or nothing: it is linked in.
    kind: Option<String>,
}

/// The text of `docs/licences.md` for what Cargo.lock names, with all features, on Linux.
///
/// # Errors
/// [`LicencesError`].
pub fn list() -> Result<String, LicencesError> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .map_err(LicencesError::Start)?;
    if !output.status.success() {
        return Err(LicencesError::Cargo(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    text(&serde_json::from_slice(&output.stdout).map_err(LicencesError::Metadata)?)
}

fn text(metadata: &Metadata) -> Result<String, LicencesError> {
    let linked = reached(metadata, |kind| kind.is_none());
    let all = reached(metadata, |_| true);
    let mut text = "# Licences\n\nMailrace is licensed under MIT or Apache-2.0, at your option. It uses these third-party \
        crates, each under its own licence; `deny.toml` lists the permitted licences. `mailrace-dev licences` generates \
        this page.\n"
        .to_owned();
    let mut missing = Vec::new();
    for (title, wanted) in [
        ("In the programs", linked.clone()),
        ("Only for building, tests and benchmarks", all.difference(&linked).copied().collect()),
    ] {
        let mut by_licence: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let packages = metadata.packages.iter().filter(|package| {
            wanted.contains(package.id.as_str()) && !metadata.workspace_members.contains(&package.id)
        });
        for Package { name, version, license, .. } in packages {
            match license {
                // An older way to write OR.
                Some(licence) => {
                    by_licence
                        .entry(licence.replace('/', " OR "))
                        .or_default()
                        .push(format!("{name} {version}"));
                }
                None => missing.push(name.clone()),
            }
        }
        let _ = write!(text, "\n## {title}\n\n| licence | crates |\n|---|---|\n");
        for (licence, mut crates) in by_licence {
            crates.sort_unstable();
            let _ = writeln!(text, "| {licence} | {} |", crates.join(", "));
        }
    }
    if missing.is_empty() { Ok(text) } else { Err(LicencesError::Missing(missing)) }
}

/// The packages that those of the workspace lead to over dependencies of some kinds.
fn reached(metadata: &Metadata, is_wanted: impl Fn(&Option<String>) -> bool) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    while let Some(id) = ahead.pop() {
        if !reached.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            if dependency.dep_kinds.iter().any(|kind| is_wanted(&kind.kind)) {
                ahead.push(&dependency.pkg);
            }
        }
    }
    reached
}
