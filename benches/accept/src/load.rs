//! Defines open-loop load: connections come when they come, whether or not the server keeps up, and what each one took
//! is counted from the moment at which it was to come.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::client::{Client, Failures, Progress};
use crate::random::Random;
use crate::statistics::quantile;

/// Rate of connections that are all to come at once.
pub(crate) const AT_ONCE: f64 = 1e6;
/// Connections that are open at once by default. More are not needed unless the server is overwhelmed; then those that
/// come wait for their turn, which counts. It is less than the usual limit of open files.
pub(crate) const OPEN_MAX: usize = 900;
/// Time from the beginning of a connection to its answer by default; what takes longer is stuck.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const EVENTS_AT_ONCE: usize = 256;
const READ_BYTES: usize = 4096;
/// Number of the timer among the connections.
const TIMER: u64 = u64::MAX;

/// What is asked, and how often.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) server: SocketAddrV4,
    pub(crate) per_second: f64,
    pub(crate) count: u64,
    /// Paths, and the share of the requests that each has; the shares add up to 1.
    pub(crate) paths: Vec<(f64, String)>,
    pub(crate) answer_within: Duration,
    pub(crate) open_max: usize,
    /// Whether connections are kept when they have been answered.
    pub(crate) keep: bool,
    pub(crate) seed: u64,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Tally {
    /// Times from when a connection was to come to its answer, in microseconds and in order; by path.
    pub(crate) times: Vec<Vec<u32>>,
    /// How late connections were begun, in microseconds and in order.
    pub(crate) late: Vec<u32>,
    pub(crate) answered: u64,
    pub(crate) failures: Failures,
    pub(crate) kept: Vec<Client>,
    pub(crate) took: Duration,
}

impl Tally {
    /// A quantile of the times of a path, in milliseconds.
    pub(crate) fn ms(&self, path: usize, part: f64) -> f64 {
        f64::from(quantile(&self.times[path], part)) / 1e3
    }

    /// A quantile of how late connections were begun, in milliseconds.
    pub(crate) fn late_ms(&self, part: f64) -> f64 {
        f64::from(quantile(&self.late, part)) / 1e3
    }
}

/// What is done beside the load: it is called when the load begins, and again at each moment that it names.
pub(crate) type Aside<'a> = dyn FnMut(Instant) -> Result<Option<Instant>> + 'a;

impl Load {
    /// One path, asked for on a new connection each time.
    pub(crate) fn new(server: SocketAddrV4, path: &str, per_second: f64, count: u64) -> Self {
        Self {
            server,
            per_second,
            count,
            paths: vec![(1.0, path.to_owned())],
            answer_within: ANSWER_WITHIN,
            open_max: OPEN_MAX,
            keep: false,
            seed: count,
        }
    }

    pub(crate) fn run(&self) -> Result<Tally> {
        self.run_beside(&mut |_| Ok(None))
    }

    pub(crate) fn run_beside(&self, aside: &mut Aside<'_>) -> Result<Tally> {
        let mut run = Run::new(self)?;
        let mut moment = aside(run.began)?;
        while !run.is_over() {
            let now = Instant::now();
            if moment.is_some_and(|at| at <= now) {
                moment = aside(now)?;
            }
            run.open_those_due()?;
            run.give_up_those_late();
            run.wait(moment)?;
        }
        Ok(run.end())
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let close = if self.keep {
            ""
        } else {
            "Connection: close\r\n"
        };
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n").into_bytes()
    }
}

/// A load that is under way.
struct Run<'a> {
    load: &'a Load,
    requests: Vec<Vec<u8>>,
    random: Random,
    began: Instant,
    epoll: Epoll,
    timer: TimerFd,
    /// Connections by their number.
    open: HashMap<u64, Open>,
    /// When to give up which connection; one that has ended is here still.
    deadlines: VecDeque<(Instant, u64)>,
    begun: u64,
    /// When the next connection is to come, in seconds after the beginning.
    next: f64,
    buffer: Vec<u8>,
    tally: Tally,
}

struct Open {
    client: Client,
    due: Instant,
    path: usize,
}

impl<'a> Run<'a> {
    fn new(load: &'a Load) -> Result<Self> {
        let mut random = Random::new(load.seed);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("cannot make a timer")?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let paths = load.paths.iter();
        Ok(Self {
            requests: paths.map(|(_, path)| load.request(path)).collect(),
            next: random.gap(load.per_second),
            random,
            began: Instant::now(),
            epoll,
            timer,
            open: HashMap::new(),
            deadlines: VecDeque::new(),
            begun: 0,
            buffer: vec![0; READ_BYTES],
            tally: Tally {
                times: vec![Vec::new(); load.paths.len()],
                ..Tally::default()
            },
            load,
        })
    }

    fn is_over(&self) -> bool {
        self.begun == self.load.count && self.open.is_empty()
    }

    fn has_room(&self) -> bool {
        self.begun < self.load.count && self.open.len() < self.load.open_max
    }

    fn due(&self) -> Instant {
        self.began + Duration::from_secs_f64(self.next)
    }

    fn open_those_due(&mut self) -> Result<()> {
        while self.has_room() {
            let (due, now) = (self.due(), Instant::now());
            if due > now {
                break;
            }
            self.next += self.random.gap(self.load.per_second);
            self.tally.late.push(micros(now - due));
            let path = self.choose_path();
            let number = self.begun;
            self.begun += 1;
            match Client::open(self.load.server, number)? {
                Ok(client) => {
                    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                    self.epoll.add(&client, EpollEvent::new(flags, number))?;
                    self.open.insert(number, Open { client, due, path });
                    self.deadlines
                        .push_back((now + self.load.answer_within, number));
                    // Over loopback it is connected already.
                    self.advance(number);
                }
                Err(failure) => self.tally.failures.count(failure),
            }
        }
        Ok(())
    }

    fn choose_path(&mut self) -> usize {
        let mut rest = self.random.part();
        let shares = self.load.paths.iter().map(|(share, _)| *share);
        let chosen = shares.enumerate().find(|(_, share)| {
            rest -= share;
            rest < 0.0
        });
        chosen.map_or(0, |(path, _)| path)
    }

    fn advance(&mut self, number: u64) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        loop {
            match open
                .client
                .advance(&self.requests[open.path], &mut self.buffer)
            {
                Progress::Waiting => return,
                Progress::Answered => {
                    self.tally.answered += 1;
                    self.tally.times[open.path].push(micros(open.due.elapsed()));
                    if self.load.keep {
                        let kept = self.open.remove(&number).map(|open| open.client);
                        return self.tally.kept.extend(kept);
                    }
                }
                Progress::Ended => break,
                Progress::Failed(failure) => {
                    self.tally.failures.count(failure);
                    break;
                }
            }
        }
        self.open.remove(&number);
    }

    fn give_up_those_late(&mut self) {
        let now = Instant::now();
        while let Some((deadline, number)) = self.deadlines.front().copied() {
            let is_open = self.open.contains_key(&number);
            if is_open && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            // One that has its answer, and is not closed by the server, is closed by the client.
            if let Some(open) = self.open.remove(&number)
                && !open.client.is_answered()
            {
                self.tally.failures.count(open.client.given_up());
            }
        }
    }

    /// Waits until there is something to do, and does what connections are ready for.
    fn wait(&mut self, moment: Option<Instant>) -> Result<()> {
        let due = self.has_room().then(|| self.due());
        let deadline = self.deadlines.front().map(|(at, _)| *at);
        let Some(wake) = [due, deadline, moment].into_iter().flatten().min() else {
            return Ok(());
        };
        let left = wake.saturating_duration_since(Instant::now());
        let timeout = if left.is_zero() {
            EpollTimeout::ZERO
        } else {
            // A timeout of epoll's own is in whole milliseconds, which is too coarse.
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            self.timer.set(once, TimerSetTimeFlags::empty())?;
            EpollTimeout::NONE
        };
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => bail!("cannot wait for connections: {error}"),
        };
        for event in &events[..count] {
            self.advance(event.data());
        }
        Ok(())
    }

    fn end(mut self) -> Tally {
        self.tally.took = self.began.elapsed();
        for times in self.tally.times.iter_mut().chain([&mut self.tally.late]) {
            times.sort_unstable();
        }
        self.tally
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    fn listen() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("not an address of IPv4")
        };
        (listener, address)
    }

    /// Answers one connection after the other, and breaks every one whose path says so.
    fn serve(listener: &TcpListener, count: usize) {
        for stream in listener.incoming().take(count) {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1000]);
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer = match request.split(' ').nth(1).unwrap() {
                "/break" => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
                "/wrong" => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    #[test]
    fn every_connection_is_counted_once() {
        let (listener, address) = listen();
        let server = std::thread::spawn(move || serve(&listener, 300));
        let mut load = Load::new(address, "/", 5000.0, 300);
        let paths = ["/", "/break", "/wrong"];
        load.paths = paths.map(|path| (1.0 / 3.0, path.to_owned())).to_vec();
        let mut called = 0;
        let began = Instant::now();
        let tally = load.run_beside(&mut |_| {
            called += 1;
            Ok(Some(Instant::now() + Duration::from_millis(10)))
        });
        let tally = tally.unwrap();
        server.join().unwrap();
        assert_eq!(tally.answered + tally.failures.all(), 300);
        let Failures { reset, wrong, .. } = tally.failures;
        assert_eq!(tally.failures.all(), reset + wrong);
        assert!(tally.answered > 50 && reset > 50 && wrong > 50);
        assert_eq!(tally.times[0].len() as u64, tally.answered);
        assert_eq!(tally.late.len(), 300);
        assert!(tally.took.as_millis() > 30 && began.elapsed().as_secs() < 5);
        assert!(called >= 3);
    }

    #[test]
    fn who_is_not_answered_is_stuck_and_who_meets_nobody_is_refused() {
        let (listener, address) = listen();
        let mut load = Load::new(address, "/", AT_ONCE, 5);
        load.answer_within = Duration::from_millis(50);
        load.open_max = 2;
        assert_eq!(load.run().unwrap().failures.to_string(), "5 stuck");
        drop(listener);
        assert_eq!(load.run().unwrap().failures.to_string(), "5 refused");
    }

    #[test]
    fn kept_connections_are_open_until_the_server_closes_them() {
        let (listener, address) = listen();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1000]).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            stream
        });
        let mut load = Load::new(address, "/", AT_ONCE, 1);
        load.keep = true;
        let tally = load.run().unwrap();
        let stream = server.join().unwrap();
        assert!(!tally.kept[0].is_closed());
        drop(stream);
        assert!(tally.kept[0].is_closed());
    }
}
