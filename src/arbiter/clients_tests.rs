//! Defines the tests of the control socket: real sockets, a clock that is said, and no waiting, since
//! what is sent on a Unix socket has arrived.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, geteuid, seteuid};
use tempfile::TempDir;

use super::*;
use crate::protocol::control::What;
use crate::sys::{fork_lock, poll};

/// An arbiter that has nothing but its clients.
struct Desk {
    _folder: TempDir,
    path: PathBuf,
    clients: Clients,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = ChannelListener::bind(&path, 0o600).unwrap();
        Self {
            _folder: folder,
            path,
            clients: Clients::new(Some(listener)),
        }
    }

    /// One turn of the arbiter, at time 0.
    fn turn(&mut self) -> Vec<(ClientId, Command)> {
        self.turn_at(0)
    }

    fn turn_at(&mut self, now_ms: u64) -> Vec<(ClientId, Command)> {
        let (tokens, mut watched): (Vec<Token>, Vec<Watched<'_>>) = self.clients.watched().unzip();
        poll::wait(&mut watched, Some(Duration::ZERO)).unwrap();
        let ready = tokens.into_iter().zip(&watched);
        let ready = ready.filter(|(_, watched)| watched.is_ready());
        let ready: Vec<Token> = ready.map(|(token, _)| token).collect();
        let commands = ready
            .into_iter()
            .filter_map(|token| self.clients.on_ready(token, now_ms));
        commands.collect()
    }

    /// A client that has been let in.
    fn client(&mut self) -> Channel {
        let channel = Channel::connect(&self.path).unwrap();
        assert_eq!(self.turn(), []);
        channel
    }

    /// A client that has said `command`, and its name.
    fn ordering(&mut self, command: Command) -> (Channel, ClientId) {
        let channel = self.client();
        say(&channel, command);
        let [(id, heard)] = self.turn()[..] else {
            panic!("the command is not heard");
        };
        assert_eq!(heard, command);
        (channel, id)
    }
}

fn say(channel: &Channel, command: Command) {
    assert!(channel.send(&command.encode(), &[]).unwrap());
}

/// What a client hears.
#[derive(Debug, PartialEq)]
enum Heard {
    Nothing,
    Word(Answer),
    End,
}

fn hear(channel: &Channel) -> Heard {
    let mut buffer = [0; FRAME_BYTES_MAX];
    match channel.recv(&mut buffer).unwrap() {
        Recv::Empty => Heard::Nothing,
        Recv::Eof => Heard::End,
        Recv::Frame { len, fds } => {
            assert!(fds.is_empty());
            Heard::Word(Answer::decode(&buffer[..len]).unwrap())
        }
    }
}

fn done(text: &str) -> Heard {
    Heard::Word(Answer::Done(text.to_owned()))
}

fn refused(text: &str) -> Heard {
    Heard::Word(Answer::Refused(text.to_owned()))
}

/// A document of so many bytes and a few more.
fn document(bytes: usize) -> Report {
    Report {
        config: Some("x".repeat(bytes)),
        ..Report::default()
    }
}

#[test]
fn a_command_is_heard_once_and_answered_once() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let (one, id) = desk.ordering(Command::Reopen);
    assert_eq!(desk.turn(), []);
    assert_eq!(hear(&one), Heard::Nothing);
    desk.clients.reply(id, Ok("done it".to_owned()), 0);
    assert_eq!(hear(&one), done("done it"));
    assert_eq!(hear(&one), Heard::End);
    // The name is not the next one's.
    let (other, next) = desk.ordering(Command::Upgrade);
    assert_ne!(id, next);
    desk.clients.reply(id, Ok("again".to_owned()), 0);
    assert_eq!(hear(&other), Heard::Nothing);
    desk.clients.reply(next, Err("no".to_owned()), 0);
    assert_eq!(hear(&other), refused("no"));
    assert_eq!(hear(&other), Heard::End);
}

#[test]
fn a_document_arrives_whole_however_slowly_it_is_taken() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let (channel, id) = desk.ordering(Command::Show(What::Config));
    let report = document(3 << 20);
    desk.clients.show(id, &report, 0);
    let mut document = Vec::new();
    let mut turns = 0;
    loop {
        match hear(&channel) {
            Heard::Nothing => {
                turns += 1;
                assert!(turns < 10_000, "{} bytes and no end", document.len());
                assert_eq!(desk.turn(), []);
            }
            Heard::Word(Answer::Part(part)) => document.extend(part),
            last => break assert_eq!(last, done("")),
        }
    }
    assert!(turns > 1, "all of it fitted into the queue");
    assert!(serde_json::from_slice::<Report>(&document).is_ok_and(|read| read == report));
    assert_eq!(hear(&channel), Heard::End);
}

#[test]
fn a_document_that_is_too_long_is_refused() {
    let mut desk = Desk::new();
    let (channel, id) = desk.ordering(Command::Show(What::Config));
    desk.clients.show(id, &document(DOCUMENT_BYTES_MAX), 0);
    assert!(matches!(hear(&channel), Heard::Word(Answer::Refused(_))));
}

#[test]
fn whoever_does_not_take_the_answer_is_given_up_and_nobody_waits_for_it() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let (slow, id) = desk.ordering(Command::Show(What::Config));
    desk.clients.show(id, &document(3 << 20), 5);
    let (other, next) = desk.ordering(Command::Reopen);
    desk.clients.reply(next, Ok(String::new()), 5);
    assert_eq!(hear(&other), done(""));
    let by_ms = 5 + TAKING_MS;
    assert_eq!(desk.clients.next_deadline(), Some(by_ms));
    desk.clients.expire(by_ms - 1);
    assert_eq!(desk.clients.connected.len(), 1);
    desk.clients.expire(by_ms);
    assert_eq!(desk.clients.next_deadline(), None);
    let mut last = hear(&slow);
    while let Heard::Word(Answer::Part(_)) = last {
        last = hear(&slow);
    }
    assert_eq!(last, Heard::End);
}

#[test]
fn whoever_says_nothing_is_given_up() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let silent = desk.client();
    assert_eq!(desk.clients.next_deadline(), Some(SILENCE_MS));
    desk.clients.expire(SILENCE_MS - 1);
    assert_eq!(hear(&silent), Heard::Nothing);
    desk.clients.expire(SILENCE_MS);
    assert_eq!(hear(&silent), Heard::End);
    assert_eq!(desk.clients.next_deadline(), None);
}

#[test]
fn whoever_waits_for_the_end_of_an_order_may_wait() {
    let mut desk = Desk::new();
    let (channel, id) = desk.ordering(Command::Reload);
    assert_eq!(desk.clients.next_deadline(), None);
    desk.clients.expire(u64::MAX);
    desk.clients.reply(id, Ok("generation 2".to_owned()), 0);
    assert_eq!(hear(&channel), done("generation 2"));
}

#[test]
fn whoever_goes_is_forgotten() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    drop(desk.client());
    assert_eq!(desk.turn(), []);
    assert!(desk.clients.connected.is_empty());
    // With its command said, and while it waits.
    let early = desk.client();
    say(&early, Command::Reload);
    drop(early);
    let [(id, Command::Reload)] = desk.turn()[..] else {
        panic!("the command is not heard");
    };
    assert_eq!(desk.turn(), []);
    assert!(desk.clients.connected.is_empty());
    desk.clients.reply(id, Ok(String::new()), 0);
    // In the middle of a document.
    let (reader, id) = desk.ordering(Command::Show(What::Config));
    desk.clients.show(id, &document(3 << 20), 0);
    assert_eq!(desk.clients.connected.len(), 1);
    drop(reader);
    assert_eq!(desk.turn(), []);
    assert!(desk.clients.connected.is_empty());
}

#[test]
fn whoever_has_closed_one_half_hears_what_is_ready_at_once() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let half_closed = |desk: &mut Desk, command| {
        let channel = desk.client();
        say(&channel, command);
        shutdown(channel.as_fd().as_raw_fd(), Shutdown::Write).unwrap();
        let heard = desk.turn();
        let [(id, _)] = heard[..] else {
            panic!("{heard:?}");
        };
        (channel, id)
    };
    let (channel, id) = half_closed(&mut desk, Command::Reopen);
    desk.clients.reply(id, Ok("open".to_owned()), 0);
    assert_eq!(hear(&channel), done("open"));
    let (channel, _) = half_closed(&mut desk, Command::Reload);
    assert_eq!(desk.turn(), []);
    assert_eq!(hear(&channel), Heard::End);
}

#[test]
fn whoever_speaks_out_of_turn_is_closed_and_was_heard_once() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let channel = desk.client();
    let mut said = 0;
    while channel.send(&Command::Reload.encode(), &[]).unwrap() {
        said += 1;
    }
    assert!(said > 2, "{said}");
    let (calm, _) = {
        let heard = desk.turn();
        let [(_, Command::Reload)] = heard[..] else {
            panic!("{heard:?}");
        };
        desk.ordering(Command::Reload)
    };
    assert_eq!(desk.clients.connected.len(), 1);
    assert_eq!(hear(&channel), Heard::End);
    assert_eq!(hear(&calm), Heard::Nothing);
}

#[test]
fn what_is_not_a_command_closes() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let check = |desk: &mut Desk, frame: &[u8], files: usize| {
        let channel = desk.client();
        let file = tempfile::tempfile().unwrap();
        assert!(channel.send(frame, &vec![file.as_fd(); files]).unwrap());
        assert_eq!(desk.turn(), []);
        assert_eq!(hear(&channel), Heard::End, "{frame:?}");
        assert!(desk.clients.connected.is_empty());
    };
    check(&mut desk, b"show all\n", 0);
    check(&mut desk, &[0], 0);
    check(&mut desk, &[0xff; FRAME_BYTES_MAX], 0);
    check(&mut desk, &[1; FRAME_BYTES_MAX + 1], 0);
    check(&mut desk, &Answer::Done(String::new()).encode(), 0);
    check(&mut desk, &Command::Reload.encode(), 1);
    check(&mut desk, &Command::Reload.encode(), 4);
}

#[test]
fn one_client_too_many_is_told_so_and_each_turn_hears_each_once() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let mut channels: Vec<Channel> = (0..CLIENTS_MAX).map(|_| desk.client()).collect();
    let one_more = desk.client();
    assert_eq!(hear(&one_more), refused(TOO_MANY));
    assert_eq!(hear(&one_more), Heard::End);
    for channel in &channels {
        say(channel, Command::Reload);
    }
    let heard = desk.turn();
    assert_eq!(heard.len(), CLIENTS_MAX);
    for (id, _) in heard {
        desk.clients.reply(id, Ok(String::new()), 0);
    }
    for channel in channels.drain(..) {
        assert_eq!(hear(&channel), done(""));
    }
    let (_channel, _) = desk.ordering(Command::Reload);
}

#[test]
fn whoever_stays_silent_gives_its_place_to_others_and_nobody_else_does() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let (waiting, id) = desk.ordering(Command::Reload);
    let mut silent: Vec<Channel> = (1..CLIENTS_MAX).map(|_| desk.client()).collect();
    let early = Channel::connect(&desk.path).unwrap();
    assert_eq!(desk.turn_at(HESITATION_MS - 1), []);
    assert_eq!(hear(&early), refused(TOO_MANY));
    // The oldest has spoken, and the arbiter has not come to hear it.
    let oldest = silent.remove(0);
    say(&oldest, Command::Reopen);
    let comer = Channel::connect(&desk.path).unwrap();
    say(&comer, Command::Upgrade);
    let [(reopener, Command::Reopen)] = desk.turn_at(HESITATION_MS)[..] else {
        panic!("the oldest is not heard");
    };
    assert_eq!(hear(&silent.remove(0)), Heard::End);
    let [(upgrader, Command::Upgrade)] = desk.turn_at(HESITATION_MS)[..] else {
        panic!("whoever came last is not heard");
    };
    for (id, channel) in [(id, waiting), (reopener, oldest), (upgrader, comer)] {
        desk.clients.reply(id, Ok("done".to_owned()), HESITATION_MS);
        assert_eq!(hear(&channel), done("done"));
    }
    for channel in silent {
        assert_eq!(hear(&channel), Heard::Nothing);
    }
}

#[test]
fn all_documents_that_wait_are_bounded_together() {
    let mut desk = Desk::new();
    let report = document(DOCUMENT_BYTES_MAX - 100);
    let asking = |desk: &mut Desk| {
        let (channel, id) = desk.ordering(Command::Show(What::Config));
        desk.clients.show(id, &report, 0);
        assert!(desk.clients.queued_bytes() <= QUEUED_BYTES_MAX);
        let is_shown = match hear(&channel) {
            Heard::Word(Answer::Part(_)) => true,
            Heard::Word(Answer::Refused(_)) => false,
            other => panic!("{other:?}"),
        };
        (channel, is_shown)
    };
    let slow = [asking(&mut desk), asking(&mut desk)];
    assert!(slow.iter().all(|(_, is_shown)| *is_shown));
    assert!(!asking(&mut desk).1);
    desk.clients.expire(TAKING_MS);
    assert!(asking(&mut desk).1);
}

#[test]
fn a_fast_reader_does_not_keep_the_arbiter() {
    let mut desk = Desk::new();
    let (channel, id) = desk.ordering(Command::Show(What::Config));
    desk.clients.show(id, &document(3 << 20), 0);
    let taken = |desk: &mut Desk| {
        while let Heard::Word(_) = hear(&channel) {}
        let before = desk.clients.queued_bytes();
        assert_eq!(desk.turn(), []);
        before - desk.clients.queued_bytes()
    };
    for _ in 0..5 {
        let taken = taken(&mut desk);
        assert!(
            (1..=FRAMES_PER_TURN * FRAME_BYTES_MAX).contains(&taken),
            "{taken}"
        );
    }
}

#[test]
fn a_flood_of_clients_gets_one_in_a_turn() {
    let mut desk = Desk::new();
    let flood: Vec<Channel> = (0..8)
        .map(|_| Channel::connect(&desk.path).unwrap())
        .collect();
    for (before, channel) in flood.iter().enumerate() {
        assert_eq!(desk.clients.connected.len(), before);
        say(channel, Command::Reload);
        let heard = desk.turn();
        assert!(heard.len() <= 1, "{heard:?}");
    }
}

#[test]
fn everything_is_closed_at_the_end() {
    let _closing = fork_lock::closing();
    let mut desk = Desk::new();
    let silent = desk.client();
    let (waiting, _) = desk.ordering(Command::Reload);
    let (told, id) = desk.ordering(Command::Shutdown { quick: true });
    desk.clients.reply(id, Ok("bye".to_owned()), 0);
    desk.clients.close_all(false);
    assert_eq!(hear(&silent), Heard::End);
    assert_eq!(hear(&waiting), Heard::End);
    assert_eq!(hear(&told), done("bye"));
    assert_eq!(desk.clients.watched().count(), 0);
    assert_eq!(desk.clients.next_deadline(), None);
    assert!(!desk.path.exists());
}

/// The limit and the user belong to the whole process, so a child is it.
fn in_a_child(test: impl FnOnce()) {
    let _forking = fork_lock::forking();
    let child = process::fork(|| {
        test();
        0
    });
    let pid = Pid::from_raw(child.unwrap().number() as i32);
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
}

#[test]
fn without_a_descriptor_to_give_clients_wait_until_there_is_one() {
    in_a_child(|| {
        let mut desk = Desk::new();
        let channel = Channel::connect(&desk.path).unwrap();
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 0, most).unwrap();
        assert_eq!(desk.clients.on_ready(Token::Listener, 7), None);
        assert_eq!(desk.clients.watched().count(), 0);
        assert_eq!(desk.clients.next_deadline(), Some(7 + BREATHER_MS));
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        desk.clients.expire(7 + BREATHER_MS);
        say(&channel, Command::Reopen);
        assert_eq!(desk.turn(), []);
        assert_eq!(desk.turn().len(), 1);
    });
}

/// Only root can be somebody else; for others the test is over at once.
#[test]
fn another_user_is_not_served() {
    if !geteuid().is_root() {
        return;
    }
    in_a_child(|| {
        // The address is one that every user can reach.
        let mut desk = Desk::new();
        let folder = desk.path.parent().unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&desk.path, Permissions::from_mode(0o666)).unwrap();
        seteuid(Uid::from_raw(65_534)).unwrap();
        let stranger = Channel::connect(&desk.path).unwrap();
        seteuid(Uid::from_raw(0)).unwrap();
        assert_eq!(desk.turn(), []);
        assert_eq!(hear(&stranger), Heard::End);
        assert!(desk.clients.connected.is_empty());
    });
}
