//! Defines how a server under test is started: with what a test asks for, and with what every test
//! wants.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;

use nix::sys::prctl::set_child_subreaper;
use tempfile::TempDir;

use super::{Server, guest, limited};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rgunicorn");
/// How the settings file in a server's folder is called.
pub(super) const SETTINGS: &str = "rgunicorn.toml";
/// How the link in a server's folder is called that leads to the program.
pub(super) const LINK: &str = "rgunicorn";

/// What a server is to be started with.
pub(crate) struct Start {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    setup: Option<String>,
    stdin: Option<Stdio>,
    program: PathBuf,
    folder: TempDir,
}

impl Start {
    /// A server without an app: the verb, and what every test wants.
    pub(crate) fn new(verb: &str) -> Self {
        let cache = shared_cache()
            .to_str()
            .expect("the path is text")
            .to_owned();
        let env = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("RGUNICORN_CACHE_DIR", cache),
            ("RGUNICORN_BIND", "127.0.0.1:0".to_owned()),
            ("RGUNICORN_WORKERS", "1".to_owned()),
        ];
        Self {
            args: vec![verb.to_owned()],
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            setup: None,
            stdin: None,
            program: PathBuf::from(PROGRAM),
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    /// A server of one guest.
    pub(crate) fn app(name: &str) -> Self {
        Self::new("serve").args([guest(name)])
    }

    /// A server of a settings file. `{NAME}` in it stands for the path of the guest of that name.
    pub(crate) fn config(text: &str) -> Self {
        let start = Self::new("serve");
        let path = start.write(SETTINGS, &with_guests(text));
        start.args(["--config".to_owned(), path])
    }

    /// Writes a file into the server's own folder and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.to_str().expect("the path is text").to_owned()
    }

    /// The server's own folder, which is also its current one.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable, or with an empty value removes it.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        match value {
            "" => self.env.remove(name),
            _ => self.env.insert(name.to_owned(), value.to_owned()),
        };
        self
    }

    /// Runs this in the shell that becomes the server.
    pub(crate) fn setup(mut self, script: &str) -> Self {
        self.setup = Some(script.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Starts it through a symbolic link in its folder, which [`Server::switch_program`] can switch.
    pub(crate) fn through_link(mut self) -> Self {
        self.program = self.folder.path().join(LINK);
        symlink(PROGRAM, &self.program).expect("a link can be made");
        self
    }

    fn command(&mut self) -> Command {
        let program = self.program.to_str().expect("the path is text");
        let mut command = match &self.setup {
            Some(setup) => limited(setup, program),
            None => Command::new(program),
        };
        command.args(&self.args).env_clear().envs(&self.env);
        command.current_dir(self.folder.path()).process_group(0);
        command.stdin(self.stdin.take().unwrap_or_else(Stdio::null));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Server {
        adopt_orphans();
        let child = self.command().spawn().expect("the program can be started");
        Server::watch(child, self.folder)
    }

    /// Runs it to its end, which must come by itself.
    pub(crate) fn run(self) -> Ended {
        let mut server = self.spawn();
        let output = server.output();
        let status = server.wait_exit();
        server.no_process_is_left();
        Ended {
            code: status.code(),
            stdout: output,
            stderr: server.log(),
        }
    }
}

/// How a program that ended by itself ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The only line of standard error that is not of the log.
    pub(crate) fn line(&self) -> &str {
        let plain = |line: &&str| !line.contains(" INFO ") && !line.contains(" WARN ");
        let lines: Vec<&str> = self.stderr.lines().filter(plain).collect();
        assert_eq!(lines.len(), 1, "not one line: {self:#?}");
        lines[0]
    }
}

/// Puts paths in the place of the names of guests.
pub(super) fn with_guests(text: &str) -> String {
    let mut parts = text.split('{');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                result.push_str(&guest(name));
                result.push_str(rest);
            }
            Some(_) | None => {
                result.push('{');
                result.push_str(part);
            }
        }
    }
    result
}

/// Makes this process the parent of every process below it that loses its own: so it learns how an
/// arbiter ends that another has started.
fn adopt_orphans() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_child_subreaper(true).expect("orphans can be adopted"));
}

/// The folder of compiled guests that all tests share: an interpreter takes a while.
fn shared_cache() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("blackbox")
        .join("cache");
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path);
    made.expect("the cache's folder can be made");
    path
}
