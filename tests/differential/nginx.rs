//! Defines what nginx makes of the bytes of one client: what it hands on to an upstream, which is here.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::account::{Exchange, Seen};

/// A port that is free may be taken before nginx has it.
const ATTEMPTS: usize = 20;
/// nginx answers within milliseconds, or hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running nginx, and what its upstream got since it was last asked.
pub(crate) struct Nginx {
    configuration: PathBuf,
    port: u16,
    forwarded: Arc<Mutex<Vec<Exchange>>>,
}

impl Nginx {
    /// Starts nginx, if there is one, with a folder of this name.
    pub(crate) fn start(name: &str) -> Option<Self> {
        Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status()
            .ok()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(folder.join("logs")).unwrap();
        let forwarded = Arc::default();
        let upstream = serve_upstream(Arc::clone(&forwarded));
        let configuration = folder.join("nginx.conf");
        for _ in 0..ATTEMPTS {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            fs::write(&configuration, configured(port, upstream)).unwrap();
            // A daemon's first process ends when the listeners are there.
            let mut command = Command::new("nginx");
            command.arg("-p").arg(&folder).arg("-c").arg(&configuration);
            if command.stderr(Stdio::null()).status().unwrap().success() {
                return Some(Self {
                    configuration,
                    port,
                    forwarded,
                });
            }
        }
        let log = fs::read_to_string(folder.join("logs/error.log"));
        panic!("nginx does not start: {}", log.unwrap_or_default());
    }

    /// Serves a connection on which `bytes` come, and then the end.
    pub(crate) fn serve(&self, bytes: &[u8]) -> Seen {
        let mut client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may have hung up before it has read all.
        let _ = client.write_all(bytes);
        let _ = client.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        if let Err(error) = client.read_to_end(&mut answers) {
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionReset,
                "{}",
                bytes.escape_ascii()
            );
        }
        let mut forwarded = self
            .forwarded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Seen {
            requests: std::mem::take(&mut *forwarded),
            refused: statuses(&answers).any(|status| status >= 400),
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.configuration.parent().unwrap());
        command
            .arg("-c")
            .arg(&self.configuration)
            .args(["-s", "stop"]);
        let _ = command.stderr(Stdio::null()).status();
    }
}

/// The bodies are read whole before they go on, and of the size that they have.
fn configured(port: u16, upstream: u16) -> String {
    format!(
        "daemon on; master_process off; pid logs/pid; error_log logs/error.log crit;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 0; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    large_client_header_buffers 4 16k; client_header_timeout 5s; client_body_timeout 5s;
    server {{
        listen 127.0.0.1:{port};
        server_name '';
        location / {{
            proxy_pass http://127.0.0.1:{upstream}; proxy_set_header Host $host; proxy_ignore_client_abort on;
        }}
    }}
}}
"
    )
}

/// The final statuses in what a server sent. Its pages do not hold a status line.
fn statuses(answers: &[u8]) -> impl Iterator<Item = u16> {
    const VERSION: &[u8] = b"HTTP/1.1 ";
    let starts = answers.windows(VERSION.len() + 3);
    let lines = starts.filter(|window| window.starts_with(VERSION));
    lines.map(|line| {
        str::from_utf8(&line[VERSION.len()..])
            .unwrap()
            .parse()
            .unwrap()
    })
}

/// Takes what nginx hands on; answers with the port. nginx speaks HTTP/1.0 to it, so a request is a
/// connection, and its framing is in no doubt.
fn serve_upstream(forwarded: Arc<Mutex<Vec<Exchange>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let Some(exchange) = read_forwarded(&mut connection) else {
                continue;
            };
            // Before the answer, so that it is there when the client has it.
            forwarded
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(exchange);
            let _ = connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

fn read_forwarded(connection: &mut TcpStream) -> Option<Exchange> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut words = head.split(' ');
            let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            let field = |name| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("Content-Length: ");
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if bytes.len() == end + 4 + length {
                let content = bytes.split_off(end + 4);
                return Some(Exchange {
                    method,
                    target,
                    content,
                    host: Some(field("Host: ").unwrap_or("").to_owned()),
                });
            }
        }
        match connection.read(&mut piece).ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
