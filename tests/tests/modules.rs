//! The modules of `engine/server` use each other in one direction: no circle leads from one of them back to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which top-level modules each one uses, with a file that shows it.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

#[test]
fn the_servers_modules_have_no_cycle() {
    let graph = graph(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/server/src"));
    assert!(graph["process"].contains_key("config") && graph["config"].contains_key("tables"), "{graph:#?}");
    let circle = circle(&graph);
    assert!(circle.is_empty(), "move one of these to its user:\n{}", circle.join("\n"));
}

#[test]
fn detects_a_cycle() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry((*to).to_owned()).or_default();
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned(), PathBuf::from("x.rs"));
        }
        graph
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), [""; 0]);
    let found = circle(&graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]));
    assert_eq!(found, ["b uses c in x.rs", "c uses b in x.rs"]);
    let text = "use crate::log::Log;\nuse crate::{files, tables::Maps};\n//! [`crate::metrics`]\nfn f(n: crate::queue::N) {}\n";
    assert_eq!(uses(text).collect::<Vec<_>>(), ["log", "files", "tables", "queue"]);
    assert_eq!(
        production("a\n#[cfg(test)]\nmod threads;\nb\n#[cfg(test)]\nmod tests {\nc\n"),
        "a\n#[cfg(test)]\nmod threads;\nb\n"
    );
}

/// The uses that lead round; empty if there are none.
fn circle(graph: &Graph) -> Vec<String> {
    // A module that uses none of those left is in no circle, nor is one that none of them uses.
    let mut left: BTreeSet<&String> = graph.keys().collect();
    loop {
        let uses_one = |module: &String| graph[module].keys().any(|used| left.contains(used));
        let is_used = |module: &String| left.iter().any(|other| graph[*other].contains_key(module));
        let next: BTreeSet<_> =
            left.iter().copied().filter(|module| uses_one(module) && is_used(module)).collect();
        if next.len() == left.len() {
            break;
        }
        left = next;
    }
    let edges =
        left.iter().flat_map(|module| graph[*module].iter().map(move |(used, path)| (module, used, path)));
    edges
        .filter(|(_, used, _)| left.contains(used))
        .map(|(module, used, path)| format!("{module} uses {used} in {}", path.display()))
        .collect()
}

/// The graph of the modules in `source`, without their tests.
fn graph(source: &Path) -> Graph {
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    read(source, &mut texts);
    let tests: Vec<PathBuf> = texts
        .iter()
        .flat_map(|(path, text)| test_modules(text).map(|name| children(path).join(name)).collect::<Vec<_>>())
        .collect();
    let is_test = |path: &Path| tests.iter().any(|test| path.with_extension("").starts_with(test));
    let module_of = |path: &Path| {
        let first = path.strip_prefix(source).ok()?.components().next()?;
        Some(Path::new(&first).file_stem()?.to_str()?.to_owned())
    };
    let mut graph = Graph::new();
    for path in texts.keys() {
        graph.entry(module_of(path).expect("a module has a name")).or_default();
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (path, text) in texts.iter().filter(|(path, _)| !is_test(path)) {
        let module = module_of(path).expect("a module has a name");
        for used in uses(production(text)).filter(|used| *used != module && modules.contains(*used)) {
            let path = path.strip_prefix(source).expect("it is in the source").to_owned();
            graph.entry(module.clone()).or_default().entry(used.to_owned()).or_insert(path);
        }
    }
    graph
}

fn read(directory: &Path, texts: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(directory).expect("the source can be read") {
        let path = entry.expect("the source can be read").path();
        if path.is_dir() {
            read(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.insert(path.clone(), std::fs::read_to_string(path).expect("the source can be read"));
        }
    }
}

/// Where the modules lie that the file at `path` declares.
fn children(path: &Path) -> PathBuf {
    if path.ends_with("mod.rs") { path.with_file_name("") } else { path.with_extension("") }
}

/// The modules in files of their own that are built for tests only.
fn test_modules(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let declaration = rest.strip_prefix("pub(crate) ").unwrap_or(rest).strip_prefix("mod ")?;
        declaration.lines().next()?.strip_suffix(';')
    })
}

/// The text without the tests at its end.
fn production(text: &str) -> &str {
    let start = text.match_indices("#[cfg(test)]\nmod ").find(|(index, _)| {
        let line = text[*index..].lines().nth(1);
        line.is_some_and(|line| line.ends_with('{'))
    });
    start.map_or(text, |(index, _)| &text[..index])
}

/// The modules that a text names after `crate::`, but for comments.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).flat_map(move |rest| {
        let paths = match rest.strip_prefix('{') {
            Some(group) => group.split(',').map(str::trim_start).collect(),
            None => vec![rest],
        };
        paths.into_iter().map(move |path| path.split(|letter| !is_of_name(letter)).next().unwrap_or_default())
    })
}
