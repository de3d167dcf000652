//! Bugs planted in the engine's own source, to prove that the simulator or a test finds them.
//!
//! What a bug in the engine's logic does cannot be done between the engine and its simulated kernel, and a switch for it has
//! no place in a product. So each is a small change of the source's text ([`all`]): the chore `mutate` makes it in a copy
//! of the tree, builds that, and runs what has to fail. A test ensures that each text is found exactly once, so that a
//! change of the engine that outdates one is noticed with it.

mod list;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use list::all;

/// A bug.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// Its name in commands and reports.
    pub name: &'static str,
    /// What the engine does wrong.
    pub what: &'static str,
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// Text that is in the file exactly once.
    pub before: &'static str,
    /// What takes its place.
    pub after: &'static str,
    /// What has to fail.
    pub check: Check,
}

/// Something that has to fail on a tree with a bug.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// One of this number of seeds of the simulator.
    Seeds(u64),
    /// `cargo test` with these arguments.
    Test(&'static [&'static str]),
}

/// What became of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something failed: what it said last.
    Found(String),
    /// Nothing failed.
    Escaped,
    /// The changed tree is no program.
    DoesNotBuild,
}

/// Why a mutation cannot be tried.
#[derive(Debug)]
pub enum MutationError {
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A program could not be run.
    Run(&'static str, io::Error),
    /// Its text is in the file this often.
    Text(&'static str, &'static str, usize),
}

impl fmt::Display for MutationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(formatter, "{}: {error}", path.display()),
            Self::Run(program, error) => write!(formatter, "cannot run {program}: {error}"),
            Self::Text(name, file, count) => write!(
                formatter,
                "{name}: its text is in {file} {count} times; expected once: bring tools/dev/src/mutation/list up to date"
            ),
        }
    }
}

impl std::error::Error for MutationError {}

impl Mutation {
    /// The file's text with the bug.
    ///
    /// # Errors
    /// [`MutationError`].
    pub fn apply(&self, root: &Path) -> Result<String, MutationError> {
        let path = root.join(self.file);
        let text = fs::read_to_string(&path).map_err(|error| MutationError::File(path, error))?;
        let count = text.matches(self.before).count();
        if count != 1 {
            return Err(MutationError::Text(self.name, self.file, count));
        }
        Ok(text.replacen(self.before, self.after, 1))
    }
}

/// The root of the repository that this program was built from.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the tree, in which bugs are planted one after the other.
#[derive(Debug)]
pub struct Orchard {
    tree: PathBuf,
    target: PathBuf,
    jobs: usize,
}

impl Orchard {
    /// Copies what git knows of to `directory`; existing files stay, so that little is rebuilt.
    ///
    /// # Errors
    /// [`MutationError`].
    pub fn plant(directory: &Path, jobs: usize) -> Result<Self, MutationError> {
        let root = root();
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
        let listed = listed.map_err(|error| MutationError::Run("git", error))?.stdout;
        let tree = directory.join("tree");
        for name in listed.split(|octet| *octet == 0).filter(|name| !name.is_empty()) {
            let name = String::from_utf8_lossy(name).into_owned();
            // One that was removed, and not yet for git.
            let Ok(octets) = fs::read(root.join(&name)) else { continue };
            put(&tree.join(&name), &octets)?;
        }
        Ok(Self { tree, target: directory.join("target"), jobs })
    }

    /// Plants one bug, runs what has to fail, and takes the bug out again.
    ///
    /// # Errors
    /// [`MutationError`].
    pub fn try_one(&self, mutation: &Mutation) -> Result<(Outcome, Duration), MutationError> {
        let start = Instant::now();
        let path = self.tree.join(mutation.file);
        let before = fs::read(&path).map_err(|error| MutationError::File(path.clone(), error))?;
        let mutated = mutation.apply(&self.tree)?;
        put(&path, mutated.as_bytes())?;
        let outcome = match mutation.check {
            Check::Seeds(count) => self.simulate(count),
            Check::Test(arguments) => self.test(arguments),
        };
        put(&path, &before)?;
        Ok((outcome?, start.elapsed()))
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        command.args(arguments).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    fn simulate(&self, count: u64) -> Result<Outcome, MutationError> {
        let build = self.cargo(&["build", "-q", "-p", "mailrace-dev", "--locked"]).output();
        if !build.map_err(|error| MutationError::Run("cargo", error))?.status.success() {
            return Ok(Outcome::DoesNotBuild);
        }
        let output = Command::new(self.target.join("debug/mailrace-dev"))
            .args(["simulate", "--brief", "--seeds", &count.to_string(), "--jobs", &self.jobs.to_string()])
            .output()
            .map_err(|error| MutationError::Run("mailrace-dev", error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().find(|line| line.starts_with("seed ")).unwrap_or("it ended by a signal");
        Ok(if output.status.success() { Outcome::Escaped } else { Outcome::Found(told.to_owned()) })
    }

    fn test(&self, arguments: &[&str]) -> Result<Outcome, MutationError> {
        let build = self.cargo(&["test", "-q", "--locked", "--no-run"]).args(arguments).output();
        if !build.map_err(|error| MutationError::Run("cargo", error))?.status.success() {
            return Ok(Outcome::DoesNotBuild);
        }
        let output = self.cargo(&["test", "-q", "--locked"]).args(arguments).output();
        let output = output.map_err(|error| MutationError::Run("cargo", error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let failed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("---- ")).collect();
        Ok(if output.status.success() { Outcome::Escaped } else { Outcome::Found(failed.join(", ")) })
    }
}

/// Writes a file unless it is so already: what is not newer is not built again.
fn put(path: &Path, octets: &[u8]) -> Result<(), MutationError> {
    let failed = |error| MutationError::File(path.to_owned(), error);
    if fs::read(path).is_ok_and(|present| present == octets) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::write(path, octets).map_err(failed)
}

/// Tries the mutations with these names, or all; whether each is found.
///
/// # Errors
/// [`MutationError`].
pub fn mutate(
    names: &[String],
    directory: &Path,
    jobs: usize,
    say: &mut dyn FnMut(&str),
) -> Result<bool, MutationError> {
    let is_asked = |mutation: &&Mutation| names.is_empty() || names.iter().any(|name| name == mutation.name);
    let orchard = Orchard::plant(directory, jobs)?;
    let mut are_found = true;
    for mutation in all().filter(is_asked) {
        let (outcome, time) = orchard.try_one(mutation)?;
        are_found &= matches!(outcome, Outcome::Found(_));
        let told = match outcome {
            Outcome::Found(told) => format!("found: {told}"),
            Outcome::Escaped => "ESCAPED".to_owned(),
            Outcome::DoesNotBuild => "DOES NOT BUILD".to_owned(),
        };
        let told: String = told.chars().take(LINE_MAX).collect();
        say(&format!("{} ({:.0} s): {told}", mutation.name, time.as_secs_f64()));
    }
    Ok(are_found)
}

/// Characters of a line of the report.
const LINE_MAX: usize = 200;
