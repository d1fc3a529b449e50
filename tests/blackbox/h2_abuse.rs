//! Tests of what clients do to HTTP/2 that no decent client does: nothing of it costs others their
//! answers, or the worker its memory.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::control::{controlled, worker};
use crate::h2::cleartext;
use crate::harness::{Frame, Frames, Process, Server, Start, literal, until};

/// More memory than any of this may cost a worker, in KiB.
const MEMORY_MAX: u64 = 32 << 10;

fn memory(server: &Server) -> u64 {
    Process::numbers(server.worker(), "VmRSS:")[0]
}

/// Does something to a server that others must not notice. What is returned is what the server said at
/// the end, if it ended it.
fn harmless(server: &Server, abuse: impl FnOnce(&mut Frames) -> Option<u32>) -> Option<u32> {
    server.get("/").is(200, "hello\n");
    let (process, before) = (server.worker(), memory(server));
    let mut frames = Frames::connect(server);
    let code = abuse(&mut frames);
    server.get("/").is(200, "hello\n");
    let after = memory(server);
    assert!(
        after < before + MEMORY_MAX,
        "{before} KiB, then {after} KiB"
    );
    assert_eq!(server.worker(), process, "the worker has died");
    code
}

/// Sends so many times the same while somebody reads what comes back, until the server wants no more of
/// it; its last word.
fn flood(frames: &mut Frames, bytes: &[u8], times: usize) -> Option<u32> {
    let mut sender = frames.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let many = bytes.repeat(1000);
            for _ in 0..times.div_ceil(1000) {
                if sender.write_all(&many).is_err() {
                    return;
                }
            }
            // Whoever is not turned away asks at last.
            let _ = sender.write_all(&Frame::get(99_999).bytes());
        });
        loop {
            match frames.next() {
                Ok(frame) if frame.kind == Frame::GOAWAY => return Some(frame.code()),
                Ok(frame) if (frame.kind, frame.stream) == (Frame::HEADERS, 99_999) => return None,
                Ok(_) => {}
                Err(_) => return Some(u32::MAX),
            }
        }
    })
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    // CVE-2023-44487.
    let server = controlled(
        Start::config(
            "timeout = 0\n[apps.hello]\ncomponent = '{hello}'\n\
             [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\n",
        )
        .args(["--http2-cleartext", "prior-knowledge"]),
    );
    let code = harmless(&server, |frames| {
        let streams = (1..40_001).step_by(2);
        let both = streams.flat_map(|stream| [Frame::get(stream), Frame::reset(stream)]);
        // The server may be faster to hang up.
        let _ = frames.try_send(&both.collect::<Vec<_>>());
        frames.end()
    });
    assert_eq!(code, Some(Frame::ENHANCE_YOUR_CALM));
    until("none is in flight", || worker(&server)["in_flight"] == 0);
}

#[test]
fn requests_that_are_taken_back_one_after_another_end_the_connection() {
    let server = cleartext(Start::config(
        "[apps.hello]\ncomponent = '{hello}'\n\
         [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\n",
    ));
    let code = harmless(&server, |frames| {
        for stream in (1..2001).step_by(2) {
            let asks = Frame::get_target(stream, "/sleep");
            let ping = Frame::new(Frame::PING, 0, 0, [0; 8]);
            // After the pong it is the app's.
            if frames.try_send(&[asks, ping]).is_err() {
                break;
            }
            loop {
                match frames.next() {
                    Ok(frame) if frame.kind == Frame::GOAWAY => return Some(frame.code()),
                    Ok(frame) if frame.kind == Frame::PING => break,
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            if frames.try_send(&[Frame::reset(stream)]).is_err() {
                break;
            }
        }
        frames.end()
    });
    assert_eq!(code, Some(Frame::ENHANCE_YOUR_CALM));
}

#[test]
fn what_is_taken_back_in_the_queue_holds_no_place_there() {
    let server = cleartext(Start::config(
        "requests-in-flight = 1\nrequest-queue = 2\ntimeout = 0\n\
         [apps.sleep]\ncomponent = '{wasi-sleep}'\n",
    ));
    let mut frames = Frames::connect(&server);
    frames.send(&Frame::get_target(1, "/?ms=86400000"));
    for stream in (3..23).step_by(2) {
        frames.send(&Frame::get_target(stream, "/?ms=0"));
        frames.send(&Frame::reset(stream));
    }
    // There is room for somebody who waits, and nobody before it when the first has gone.
    frames.send(&Frame::get_target(23, "/?ms=0"));
    frames.send(&Frame::reset(1));
    frames.answered(23);
}

#[test]
fn heads_without_an_end_end_the_connection() {
    // CVE-2024-27316.
    let server = cleartext(Start::app("hello"));
    let code = harmless(&server, |frames| {
        frames.send(&Frame::new(Frame::HEADERS, 0, 1, literal("x", "y")));
        let piece: Vec<u8> = literal("x-field", &"a".repeat(100)).repeat(100);
        let more = Frame::new(Frame::CONTINUATION, 0, 1, piece);
        flood(frames, &more.bytes(), 5000)
    });
    assert!(
        [Some(Frame::ENHANCE_YOUR_CALM), Some(Frame::PROTOCOL_ERROR)].contains(&code),
        "{code:?}"
    );
    let code = harmless(&server, |frames| {
        frames.send(&Frame::new(Frame::HEADERS, 0, 1, literal("x", "y")));
        let empty = Frame::new(Frame::CONTINUATION, 0, 1, []);
        flood(frames, &empty.bytes(), 1_000_000)
    });
    assert!(
        [Some(Frame::ENHANCE_YOUR_CALM), Some(Frame::PROTOCOL_ERROR)].contains(&code),
        "{code:?}"
    );
}

#[test]
fn a_head_that_is_small_and_says_much_is_refused() {
    // A field that is remembered once is named thousands of times in one byte each.
    let server = cleartext(Start::app("hello"));
    harmless(&server, |frames| {
        let mut block = vec![
            0x82, 0x86, 0x84, 0x41, 1, b'a', 0x40, 1, b'x', 0x7f, 0xa1, 0x1e,
        ];
        // 127 and 3873 bytes (RFC 7541 section 5.1).
        block.extend([b'a'; 4000]);
        block.extend([0xbe; 12_000]);
        let flags = Frame::END_HEADERS | Frame::END_STREAM;
        frames.send(&Frame::new(Frame::HEADERS, flags, 1, block));
        let end = frames.until("answer", |frame| {
            frame.kind == Frame::GOAWAY || (frame.kind, frame.stream) == (Frame::HEADERS, 1)
        });
        assert_ne!(end.payload.first(), Some(&0x88), "it was answered: {end:?}");
        None
    });
}

#[test]
fn floods_of_frames_without_content_end_the_connection() {
    let server = cleartext(Start::app("hello").args(["--log-level", "debug"]));
    let settings = Frame::new(Frame::SETTINGS, 0, 0, []);
    let ping = Frame::new(Frame::PING, 0, 0, [7; 8]);
    let window = Frame::new(Frame::WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes());
    let unknown = Frame::new(0xbb, 0, 0, [0; 8]);
    let priority = Frame::new(2, 0, 1, [0, 0, 0, 0, 1]);
    for frame in [settings, ping, window, unknown, priority] {
        let code = harmless(&server, |frames| flood(frames, &frame.bytes(), 200_000));
        // A reset may overtake the last word.
        let ended = [Some(Frame::ENHANCE_YOUR_CALM), Some(u32::MAX)].contains(&code);
        assert!(ended, "{frame:?}: {code:?}");
    }
    server.wait_logs(&["sends too many frames without content"], 5);
}

#[test]
fn who_takes_what_it_asks_for_may_say_much() {
    let server = cleartext(Start::config(
        "[apps.hello]\ncomponent = '{hello}'\n\
         [apps.large]\ncomponent = '{wasi-large}'\nroutes = ['/large']\n",
    ));
    let mut frames = Frames::connect(&server);
    // More than 1000 in all: with each request its priority, a ping, and what nobody knows.
    for stream in (1..1001).step_by(2) {
        frames.send(&Frame::new(2, 0, stream, [0, 0, 0, 0, 1]));
        frames.send(&Frame::get(stream));
        frames.send(&Frame::new(Frame::PING, 0, 0, [7; 8]));
        frames.send(&Frame::new(0xbb, 0, stream, [0; 8]));
        frames.answered(stream);
    }
    // A download for which windows are opened with every frame.
    frames.send(&Frame::get_target(1001, "/large?bytes=20000000"));
    let mut received = 0;
    while received < 20_000_000 {
        let data = frames.until("data", |frame| {
            (frame.kind, frame.stream) == (Frame::DATA, 1001)
        });
        let taken = u32::try_from(data.payload.len()).unwrap().to_be_bytes();
        received += data.payload.len();
        for stream in [0, 1001] {
            if !data.payload.is_empty() && received < 20_000_000 {
                frames.send(&Frame::new(Frame::WINDOW_UPDATE, 0, stream, taken));
            }
        }
    }
    frames.send(&Frame::get(1003));
    frames.answered(1003);
}

/// Whoever keeps a worker awake does not make it look as if it stood still.
#[test]
fn floods_that_last_do_not_cost_the_worker_its_life() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let server = cleartext(Start::app("hello").args(["--heartbeat-timeout", "1"]));
    let process = server.worker();
    let many = Frame::new(Frame::PING, 0, 0, [7; 8]).bytes().repeat(1000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let began = Instant::now();
                while began.elapsed() < 3 * TIMEOUT {
                    let mut frames = Frames::connect(&server);
                    let mut sender = frames.sender();
                    let sending = scope.spawn({
                        let many = &many;
                        move || {
                            while began.elapsed() < 3 * TIMEOUT && sender.write_all(many).is_ok() {}
                        }
                    });
                    while began.elapsed() < 3 * TIMEOUT && frames.next().is_ok() {}
                    drop(frames);
                    sending.join().unwrap();
                }
            });
        }
    });
    server.get("/").is(200, "hello\n");
    assert_eq!(server.worker(), process, "the worker has died");
}

#[test]
fn a_client_that_asks_for_pongs_and_takes_none_costs_little() {
    let server = cleartext(Start::app("hello"));
    harmless(&server, |frames| {
        let pings = [
            Frame::new(Frame::PING, 0, 0, [7; 8]).bytes(),
            Frame::new(Frame::SETTINGS, 0, 0, []).bytes(),
        ];
        let many = pings.concat().repeat(10_000);
        frames.patience(Duration::from_millis(500));
        let mut sender = frames.sender();
        let mut sent = 0;
        // The server reads no more when nobody takes what it writes.
        while sent < 200 << 20 {
            match sender.write(&many) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        None
    });
}

#[test]
fn bodies_of_nothing_end_the_connection_or_cost_little() {
    let server = cleartext(Start::config(
        "[apps.hello]\ncomponent = '{hello}'\n\
         [apps.ignore]\ncomponent = '{wasi-sleep}'\nroutes = ['/ignore']\n",
    ));
    let mut path = vec![4, 18];
    path.extend(b"/ignore?ms=8640000");
    let head = [&[0x83, 0x86, 0x41, 1, b'a'][..], &path].concat();
    let code = harmless(&server, |frames| {
        frames.send(&Frame::new(Frame::HEADERS, Frame::END_HEADERS, 1, head));
        flood(
            frames,
            &Frame::new(Frame::DATA, 0, 1, []).bytes(),
            1_000_000,
        )
    });
    assert!(code.is_none_or(|code| code != 0), "{code:?}");
}

#[test]
fn what_breaks_the_rules_ends_the_stream_or_the_connection() {
    let server = cleartext(Start::app("hello"));
    let on_connection: [(&str, Frame, u32); 9] = [
        (
            "no window",
            Frame::new(Frame::WINDOW_UPDATE, 0, 0, [0; 4]),
            Frame::PROTOCOL_ERROR,
        ),
        (
            "too large a window",
            Frame::new(Frame::WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()),
            Frame::FLOW_CONTROL_ERROR,
        ),
        (
            "a long frame",
            Frame::new(Frame::DATA, 0, 1, [0; 16_385]),
            Frame::FRAME_SIZE_ERROR,
        ),
        ("a stream of ours", Frame::get(2), Frame::PROTOCOL_ERROR),
        (
            "data before a head",
            Frame::new(Frame::DATA, 0, 1, "x"),
            Frame::PROTOCOL_ERROR,
        ),
        (
            "a push",
            Frame::new(5, Frame::END_HEADERS, 1, [0, 0, 0, 2]),
            Frame::PROTOCOL_ERROR,
        ),
        (
            "settings of a stream",
            Frame::new(Frame::SETTINGS, 0, 1, []),
            Frame::PROTOCOL_ERROR,
        ),
        (
            "a short ping",
            Frame::new(Frame::PING, 0, 0, [0; 7]),
            Frame::PROTOCOL_ERROR,
        ),
        (
            "a continuation of nothing",
            Frame::new(Frame::CONTINUATION, 0, 1, []),
            Frame::PROTOCOL_ERROR,
        ),
    ];
    for (what, frame, expect) in on_connection {
        let code = harmless(&server, |frames| {
            frames.send(&frame);
            frames.end()
        });
        assert_eq!(code, Some(expect), "{what}");
    }
    let code = harmless(&server, |frames| {
        frames.send(&Frame::head(1, 0, &[]));
        frames.send(&Frame::new(Frame::WINDOW_UPDATE, 0, 1, [0; 4]));
        frames.was_reset(1)
    });
    assert_eq!(code, Some(Frame::PROTOCOL_ERROR), "no window for a stream");
    let code = harmless(&server, |frames| {
        let flags = Frame::END_HEADERS | Frame::END_STREAM;
        // A reference to a field that nobody has told of.
        frames.send(&Frame::new(Frame::HEADERS, flags, 1, [0xff, 0xff, 0x0f]));
        frames.end()
    });
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
}

#[test]
fn responses_that_nobody_reads_are_kept_within_bounds() {
    const STREAMS: u32 = 50;
    // A Unix socket holds little.
    let start = Start::app("wasi-large").args(["-b", "unix:web.sock"]);
    let start = start.args(["--access-logfile", "access.log"]);
    let server = controlled(start.args(["--http2-cleartext", "prior-knowledge"]));
    // Windows for all of it.
    let mut frames = Frames::connect_with(&server, &[(4, 1 << 20)]);
    let more = (1_u32 << 24).to_be_bytes();
    frames.send(&Frame::new(Frame::WINDOW_UPDATE, 0, 0, more));
    for stream in 0..STREAMS {
        frames.send(&Frame::get_target(2 * stream + 1, "/?bytes=3000000"));
    }
    let requests = u64::from(STREAMS);
    until("all have begun", || worker(&server)["requests"] == requests);
    for _ in 0..3 {
        // While others are answered most of them wait.
        server.get("/?bytes=1").is(200, "a");
        assert!(worker(&server)["in_flight"].as_u64() > Some(requests / 2));
    }
    // A short one is done, though it has to wait behind them.
    frames.send(&Frame::get_target(2 * STREAMS + 1, "/?bytes=1000"));
    let log = server.folder().join("access.log");
    until("the short one has its line", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("\"GET /?bytes=1000 HTTP/2.0\" 200 1000 ")
    });
    drop(frames);
    until("none is in flight", || worker(&server)["in_flight"] == 0);
}
