//! The program `mailrace` and its commands.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{PeerError, output_of, sibling};

/// The program `mailrace`.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Finds the program at `path`, or the one beside this program.
    ///
    /// # Errors
    /// [`PeerError::Failed`] when there is none.
    pub fn find(path: Option<PathBuf>) -> Result<Self, PeerError> {
        let path = path.map_or_else(|| sibling("mailrace"), Ok)?;
        if path.is_file() {
            return Ok(Self(path));
        }
        let message = format!("there is no {}; build it, or name the program", path.display());
        Err(PeerError::Failed { program: "mailrace".to_owned(), message })
    }

    /// Returns a command with this subcommand and these arguments. `serve` gets the `--io` of MAILRACE_TEST_IO in the
    /// environment, unless the arguments have one.
    pub fn command<'a>(&self, subcommand: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(subcommand).args(arguments);
        let has_io = command.get_args().any(|argument| argument == "--io");
        if subcommand == "serve"
            && !has_io
            && let Some(io) = std::env::var_os("MAILRACE_TEST_IO")
        {
            command.arg("--io").arg(io);
        }
        command
    }

    /// Runs `mailrace queue ...` on a queue to its end, and returns its output.
    ///
    /// # Errors
    /// [`PeerError::Failed`] with its error message.
    pub fn queue<'a>(
        &self,
        queue: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<u8>, PeerError> {
        let mut command = self.command("queue", arguments);
        // A signal for this program is not for the programs that it runs.
        output_of(command.arg("--queue").arg(queue).process_group(0))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}
