//! Defines in what the server differs from its peers, and why it is right. Every class has an example, which shows it with
//! just the peers that are named. In examples `|` stands for a line end.

use differential::http::target::Target;
use http::header::{CONNECTION, EXPECT, HOST};

use crate::verdict::Disagreement;
use crate::verdict::Peer::{self, Hyper, Nginx};

/// One way to disagree.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// Those who disagree.
    pub(crate) peers: &'static [Peer],
    pub(crate) example: &'static str,
    /// The section that decides it, and what it says.
    pub(crate) why: &'static str,
    kind: Kind,
}

enum Kind {
    /// The server is stricter; the name is the reason of its refusal.
    Stricter,
    /// Anything else that this function knows, which also gets the bytes of the connection.
    Other(fn(&Disagreement<'_>, &[u8]) -> bool),
}

impl Class {
    /// Whether a disagreement with a peer, about these bytes, is of this class.
    pub(crate) fn explains(&self, peer: Peer, found: &Disagreement<'_>, bytes: &[u8]) -> bool {
        let known = match (&self.kind, found) {
            (Kind::Stricter, Disagreement::Stricter(reason)) => *reason == self.name,
            (Kind::Stricter, _) => false,
            (Kind::Other(knows), found) => knows(found, bytes),
        };
        known && self.peers.contains(&peer)
    }
}

const BOTH: &[Peer] = &[Hyper, Nginx];

const fn stricter(
    name: &'static str,
    peers: &'static [Peer],
    example: &'static str,
    why: &'static str,
) -> Class {
    class(name, peers, Kind::Stricter, example, why)
}

const fn other(
    name: &'static str,
    peers: &'static [Peer],
    knows: fn(&Disagreement<'_>, &[u8]) -> bool,
    example: &'static str,
    why: &'static str,
) -> Class {
    class(name, peers, Kind::Other(knows), example, why)
}

const fn class(
    name: &'static str,
    peers: &'static [Peer],
    kind: Kind,
    example: &'static str,
    why: &'static str,
) -> Class {
    Class {
        name,
        peers,
        example,
        why,
        kind,
    }
}

pub(crate) const CLASSES: [Class; 45] = [
    // The request line.
    stricter(
        "request line is not method, target, version",
        &[Nginx],
        "GET /  HTTP/1.1|Host: a||",
        "RFC 9112 section 3: single spaces; to be lenient lets two readers find two targets",
    ),
    stricter(
        "malformed version",
        &[Nginx],
        "GET / HTTP/1.10|Host: a||",
        "RFC 9112 section 2.3: one digit each",
    ),
    stricter(
        "version is neither HTTP/1.0 nor HTTP/1.1",
        &[Nginx],
        "GET / HTTP/1.2|Host: a||",
        "RFC 9110 section 2.5 would take a higher minor version for 1.1, as a SHOULD; there is none, so whoever sends \
         one does not mean well",
    ),
    stricter(
        "malformed method or target",
        &[Nginx],
        "GET /\u{ff} HTTP/1.1|Host: a||",
        "RFC 3986 section 2: a URI is ASCII",
    ),
    stricter(
        "too many empty lines before the request",
        BOTH,
        "|||||GET / HTTP/1.1|Host: a||",
        "RFC 9112 section 2.2: at least one is to be skipped; what a client controls is bounded",
    ),
    stricter(
        "method CONNECT",
        &[Hyper],
        "CONNECT a:80 HTTP/1.1|Host: a||",
        "RFC 9110 section 9.3.6: a tunnel, which an origin server need not have",
    ),
    // The target.
    stricter(
        "target in no known form",
        &[Hyper],
        "GET a HTTP/1.1|Host: a||",
        "RFC 9112 section 3.2: the authority form is for CONNECT alone",
    ),
    stricter(
        "target * without OPTIONS",
        &[Hyper],
        "GET * HTTP/1.1|Host: a||",
        "RFC 9112 section 3.2.4: for OPTIONS alone",
    ),
    stricter(
        "target has a fragment",
        BOTH,
        "GET /#a HTTP/1.1|Host: a||",
        "RFC 9110 section 7.1: the target has none; hyper cuts it off, nginx takes it for the path",
    ),
    stricter(
        "target is not ASCII",
        BOTH,
        "GET /\u{c3}\u{a9} HTTP/1.1|Host: a||",
        "RFC 3986 section 2: a URI is ASCII",
    ),
    stricter(
        "target with an invalid character",
        &[Nginx],
        "GET /<a> HTTP/1.1|Host: a||",
        "RFC 3986 section 3.3: no such character in a path",
    ),
    stricter(
        "target with an invalid authority",
        BOTH,
        "GET http://[::g]/ HTTP/1.1|Host: a||",
        "RFC 3986 section 3.2.2, and RFC 9110 section 4.2.4 on user information",
    ),
    stricter(
        "target with an unknown scheme",
        BOTH,
        "GET ftp://a/ HTTP/1.1|Host: a||",
        "RFC 9110 section 7.4: a server answers for what is its own",
    ),
    other(
        "OPTIONS without a path is about the server",
        BOTH,
        |found, _| match found {
            Disagreement::Different(ours, theirs) => {
                ours.head.target == Target::Asterisk
                    && ours.head.method.as_str() == theirs.method
                    && theirs.target == "/"
                    && ours.content == theirs.content
            }
            _ => false,
        },
        "OPTIONS http://a HTTP/1.1|Host: a||",
        "RFC 9112 section 3.2.4: the last proxy would have sent *",
    ),
    other(
        "a query that is empty, after an authority",
        &[Nginx],
        |found, _| match found {
            Disagreement::Different(ours, theirs) => {
                ours.head.target == Target::Absolute
                    && ours.head.method.as_str() == theirs.method
                    && (ours.head.path_and_query.as_str(), theirs.target.as_str()) == ("/?", "/")
                    && ours.content == theirs.content
            }
            _ => false,
        },
        "GET http://a? HTTP/1.1|Host: a||",
        "RFC 3986 section 6.2.3: an empty query is not the same as none",
    ),
    other(
        "OPTIONS *",
        &[Nginx],
        |found, _| is_laxer(found, |_, path| path == "*"),
        "OPTIONS * HTTP/1.1|Host: a||",
        "RFC 9110 section 9.3.7: about the server as a whole",
    ),
    other(
        "the path leads above the root",
        &[Nginx],
        |found, _| is_laxer(found, |_, path| path.contains("..")),
        "GET /../a HTTP/1.1|Host: a||",
        "RFC 3986 section 5.2.4: removing dots is for references; a target is handed on as it was written",
    ),
    other(
        "percent without digits, or with those of NUL",
        &[Nginx],
        |found, _| is_laxer(found, |_, path| path.contains('%')),
        "GET /%zz HTTP/1.1|Host: a||",
        "RFC 9112 section 3.2 would refuse what is no URI, as a SHOULD; nothing here decodes it, so it has one reading, the \
         app's",
    ),
    other(
        "a method of other than capitals",
        &[Nginx],
        |found, _| {
            is_laxer(found, |method, _| {
                !method.bytes().all(|byte| byte.is_ascii_uppercase())
            })
        },
        "get / HTTP/1.1|Host: a||",
        "RFC 9110 section 9.1: a method is a token, in which capitals and small letters differ",
    ),
    other(
        "tab before a value that nginx reads",
        &[Nginx],
        |found, bytes| {
            let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let tab = |(name, value): (&str, &str)| {
                ["host", "content-length", "transfer-encoding"].contains(&name)
                    && value.contains('\t')
            };
            matches!(found, Disagreement::Laxer(_)) && fields.any(tab)
        },
        "GET / HTTP/1.1|Host:\ta||",
        "RFC 9110 section 5.6.3: a tab is optional whitespace as a space is",
    ),
    other(
        "sub-delims in the host of a target",
        &[Nginx],
        |found, _| match found {
            Disagreement::Laxer(request) => {
                let host = request.head.headers.get(HOST).map(|host| host.as_bytes());
                let sub_delims = |byte: &u8| b"!$&'()*+;=".contains(byte);
                request.head.target == Target::Absolute
                    && host.unwrap_or(b"").iter().any(sub_delims)
            }
            _ => false,
        },
        "GET http://a;b/ HTTP/1.1|Host: a||",
        "RFC 3986 section 3.2.2: part of a registered name",
    ),
    // Fields.
    stricter(
        "HTTP/1.1 without Host",
        &[Hyper],
        "GET / HTTP/1.1||",
        "RFC 9112 section 3.2: MUST be 400",
    ),
    stricter(
        "more than one Host",
        &[Hyper],
        "GET / HTTP/1.1|Host: a|Host: b||",
        "RFC 9112 section 3.2: MUST be 400",
    ),
    stricter(
        "invalid Host",
        BOTH,
        "GET / HTTP/1.1|Host: \"a\"||",
        "RFC 9112 section 3.2: MUST be 400",
    ),
    stricter(
        "line feed without carriage return",
        BOTH,
        "GET / HTTP/1.1|Host: a\n\n",
        "RFC 9112 section 2.2: MAY be taken for a line end; who does not differs from who does",
    ),
    stricter(
        "carriage return without line feed",
        &[Nginx],
        "GET / HTTP/1.1|Host: a\r||",
        "RFC 9112 section 2.2: MUST be invalid, or a space",
    ),
    stricter(
        "control character in the head",
        &[Nginx],
        "GET / HTTP/1.1|Host: a|X: \u{7f}||",
        "RFC 9110 section 5.5: invalid and dangerous",
    ),
    stricter(
        "malformed field name",
        &[Nginx],
        "GET / HTTP/1.1|Host: a|(X): b||",
        "RFC 9110 section 5.6.2: a name is a token; nginx forgets such a field",
    ),
    stricter(
        "unknown expectation",
        BOTH,
        "GET / HTTP/1.1|Host: a|Expect: x||",
        "RFC 9110 section 10.1.1: MAY be 417",
    ),
    other(
        "Expect twice",
        &[Nginx],
        |found, _| match found {
            Disagreement::Laxer(request) => request.head.headers.get_all(EXPECT).iter().count() > 1,
            _ => false,
        },
        "GET / HTTP/1.1|Host: a|Expect: 100-continue|Expect: 100-continue||",
        "RFC 9110 sections 5.3 and 10.1.1: Expect is a list, which may come in several lines",
    ),
    other(
        "close as a part of a word",
        &[Nginx],
        |found, _| match found {
            Disagreement::Unseen(Some(last)) => {
                let values = last.head.headers.get_all(CONNECTION).iter();
                let text: Vec<u8> = values
                    .flat_map(|value| value.as_bytes().to_ascii_lowercase())
                    .collect();
                text.windows(5).any(|five| five == b"close")
            }
            _ => false,
        },
        "GET / HTTP/1.1|Host: a|Connection: closed||GET /2 HTTP/1.1|Host: a||",
        "RFC 9110 section 7.6.1: the options are tokens of a list",
    ),
    other(
        "keep-alive after close",
        &[Nginx],
        |found, _| match found {
            Disagreement::Unexpected(last) => !last.head.keep_alive,
            _ => false,
        },
        "GET / HTTP/1.1|Host: a|Connection: close|Connection: keep-alive||GET /2 HTTP/1.1|Host: a||",
        "RFC 9112 section 9.3: with close the connection does not persist, whatever else is said",
    ),
    // Framing.
    stricter(
        "Content-Length is not one number",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 3, 3||0||",
        "RFC 9112 section 6.3: an invalid Content-Length is an error that cannot be recovered from",
    ),
    stricter(
        "more than one Content-Length",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 3||abc",
        "RFC 9112 section 6.3: MAY be taken for one if they are equal; a proxy that looks at one of them sees more",
    ),
    stricter(
        "Content-Length with Transfer-Encoding",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Content-Length: 3|Transfer-Encoding: chunked||0||",
        "RFC 9112 section 6.1: MAY be rejected, and ought to be handled as an error",
    ),
    stricter(
        "malformed Transfer-Encoding",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: ,chunked||0||",
        "RFC 9110 section 5.6.1 has empty elements ignored; that is how codings are hidden",
    ),
    stricter(
        "unknown transfer coding",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||",
        "RFC 9112 section 6.1: SHOULD be 501",
    ),
    stricter(
        "chunked twice",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||",
        "RFC 9112 section 6.1: MUST NOT be sent",
    ),
    stricter(
        "chunked with parameters",
        &[Hyper],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked;a=b, chunked||0||",
        "RFC 9112 section 7.1: SHOULD be an error",
    ),
    // Chunks.
    stricter(
        "malformed chunk size",
        BOTH,
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3 |abc|0||",
        "RFC 9112 section 7.1.1: whitespace belongs to an extension",
    ),
    stricter(
        "chunk size too long",
        BOTH,
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||00000000000000003|abc|0||",
        "RFC 9112 section 7.1: a parser MUST prevent overflows; here by the number of digits",
    ),
    stricter(
        "control character in a chunk size line",
        BOTH,
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;a=\"|abc|0||",
        "RFC 9112 section 7.1.1: no line ends in a quoted string, so this one is no line",
    ),
    stricter(
        "chunk longer than its size",
        &[Nginx],
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc\n0||",
        "RFC 9112 section 7.1: data ends with CRLF",
    ),
    stricter(
        "malformed trailer name",
        BOTH,
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0|\nGET / HTTP/1.1|Host: a||",
        "RFC 9112 section 7.1.2: trailers are fields, and CRLF ends them; hyper takes the request for trailers, nginx not",
    ),
    stricter(
        "control character in a trailer",
        BOTH,
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0|A: b\n||",
        "RFC 9110 section 5.5: in trailers as in fields",
    ),
];

fn is_laxer(found: &Disagreement<'_>, knows: fn(&str, &str) -> bool) -> bool {
    match found {
        Disagreement::Laxer(request) => {
            let path = request.head.path_and_query.as_str();
            knows(request.head.method.as_str(), path)
        }
        _ => false,
    }
}
