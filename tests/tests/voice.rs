//! Comments and documents use the words of the field: no phrase of `voice.txt`, which has a better one for each.
//!
//! Comments of Rust files (`//`, `///`, `//!`) and Markdown files are read. Text in backticks and fenced blocks is code, and
//! not looked at. A phrase may go on in the next line of the same comment or paragraph, in any case of letters.

#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::fs;
use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Directories that hold no text of the project.
const SKIPPED: [&str; 5] = ["target", ".git", "corpus", "crashes", "seeds"];

/// A line of code between comments: no phrase goes on over it.
const CODE: &str = "\u{1}";

/// A phrase to avoid.
struct Phrase {
    pattern: Regex,
    better: String,
    /// Longer phrases that contain it and are fine.
    fine: Vec<Regex>,
    /// Paths in which it is allowed.
    allowed: Vec<String>,
}

/// A word list.
struct Words {
    phrases: Vec<Phrase>,
    unconverted: Vec<String>,
}

impl Words {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut words = Self { phrases: Vec::new(), unconverted: Vec::new() };
        let mut is_phrase = false;
        for line in lines {
            match line {
                "[words]" => is_phrase = true,
                "[unconverted]" => is_phrase = false,
                _ if is_phrase => words.phrases.push(Phrase::parse(line)),
                _ => words.unconverted.push(line.to_owned()),
            }
        }
        words
    }

    /// Returns a line for each phrase that the file `path` with this content should not have.
    fn findings(&self, path: &str, content: &str) -> Vec<String> {
        if self.unconverted.iter().any(|prefix| path.starts_with(prefix.as_str())) {
            return Vec::new();
        }
        let prose = if path.ends_with(".rs") { comments(content) } else { paragraphs(content) };
        let allowed =
            |phrase: &&Phrase| !phrase.allowed.iter().any(|prefix| path.starts_with(prefix.as_str()));
        let mut findings = Vec::new();
        for phrase in self.phrases.iter().filter(allowed) {
            for found in phrase.find_all(&prose) {
                let line = 1 + prose[..found].matches('\n').count();
                findings.push(format!("{path}:{line}: {}: write {}", phrase.pattern, phrase.better));
            }
        }
        findings
    }
}

impl Phrase {
    fn parse(line: &str) -> Self {
        let mut columns = line.split('|').map(str::trim);
        let pattern = pattern(columns.next().unwrap());
        let better = columns.next().unwrap_or_else(|| panic!("{line}: has no better word")).to_owned();
        let mut list = || -> Vec<String> {
            let items = columns.next().unwrap_or_default().split(',').map(str::trim);
            items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let fine = list().iter().map(|phrase| self::pattern(phrase)).collect();
        Self { pattern, better, fine, allowed: list() }
    }

    /// Returns the offsets of the phrase in `prose`.
    fn find_all(&self, prose: &str) -> Vec<usize> {
        let is_fine = |start: usize| {
            self.fine.iter().any(|fine| fine.find_iter(prose).any(|longer| longer.range().contains(&start)))
        };
        self.pattern.find_iter(prose).map(|found| found.start()).filter(|start| !is_fine(*start)).collect()
    }
}

/// Returns an expression for a phrase, whose spaces may be line ends.
fn pattern(phrase: &str) -> Regex {
    let words: Vec<String> = phrase.split_whitespace().map(regex::escape).collect();
    RegexBuilder::new(&format!(r"\b{}\b", words.join(r"\s+"))).case_insensitive(true).build().unwrap()
}

/// Returns the comments of a Rust file, each in its line.
fn comments(content: &str) -> String {
    // A line may have a string before its comment, but no string that is left open.
    let comment = Regex::new(r#"^(?:[^"]|"(?:[^"\\]|\\.)*")*?//[/!]?(.*)$"#).unwrap();
    let lines = content.lines().map(|line| match comment.captures(line) {
        Some(found) => without_code(found.get(1).unwrap().as_str()),
        None => CODE.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the text of a Markdown file without fenced blocks, each line in its place.
fn paragraphs(content: &str) -> String {
    let mut is_fenced = false;
    let lines = content.lines().map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fence || is_fenced || line.is_empty() { CODE.to_owned() } else { without_code(line) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns a line without what is in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(CODE)
}

/// Adds the Rust and Markdown files below `directory` to `files`.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !SKIPPED.contains(&name) {
            walk(&path, files);
        } else if path.is_file() && (name.ends_with(".rs") || name.ends_with(".md")) {
            files.push(path);
        }
    }
}

fn words() -> Words {
    Words::parse(include_str!("voice.txt"))
}

#[test]
fn comments_and_documents_use_the_words_of_the_field() {
    let words = words();
    let mut files = Vec::new();
    walk(Path::new(ROOT), &mut files);
    let relative = |path: &Path| path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
    for prefix in &words.unconverted {
        assert!(
            files.iter().any(|path| relative(path).starts_with(prefix.as_str())),
            "voice.txt: no file begins with {prefix}"
        );
    }
    let mut findings: Vec<String> = files
        .iter()
        .flat_map(|path| words.findings(&relative(path), &fs::read_to_string(path).unwrap()))
        .collect();
    findings.sort();
    assert!(
        findings.is_empty(),
        "{} phrases of tests/tests/voice.txt:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn a_phrase_is_found_in_prose_alone() {
    let words = Words::parse("[words]\nno more | no longer | no more than | wire/\n[unconverted]\nold/\n");
    for (path, content, lines) in [
        ("a.rs", "/// Reads no more.\nfn read() {}", &[1][..]),
        ("a.rs", "fn read() {\n    // It is no\n    // More.\n}", &[2]),
        ("a.rs", "let url = \"http://x\"; // no more", &[1]),
        ("a.rs", "// no\nlet x = 1;\n// more", &[]),
        ("a.rs", "//! `no more`, and no more than that", &[]),
        ("a.rs", "let text = \"no more\";\nlet text = \"// no more\";", &[]),
        ("a.md", "text\n\n```\nno more\n```\nNo more.\n", &[6]),
        ("wire/a.md", "no more", &[]),
        ("old/a.md", "no more", &[]),
    ] {
        let found = words.findings(path, content);
        assert_eq!(found.len(), lines.len(), "{content}: {found:?}");
        for (finding, line) in found.iter().zip(lines) {
            assert!(finding.starts_with(&format!("{path}:{line}: ")), "{finding}");
            assert!(finding.ends_with("write no longer"), "{finding}");
        }
    }
}

#[test]
fn every_phrase_of_the_list_can_be_found() {
    let phrases = include_str!("voice.txt").split_once("[words]\n").unwrap().1.split_once("\n\n").unwrap().0;
    for line in phrases.lines() {
        let phrase = line.split_once(" | ").unwrap().0;
        let findings = words().findings("README.md", &format!("There {phrase} is."));
        assert!(!findings.is_empty(), "{phrase}");
    }
}
