//! Attempts to reach what is refused, generated from a seed: every kind, with every spelling, in every place where a request
//! can be made.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// One step of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Bytes as they are.
    Send(Vec<u8>),
    /// CONNECT to this target, and go on when it is there.
    Connect(String),
    /// TLS to this name.
    Tls(String),
    /// Says that nothing more is sent.
    Shut,
    /// A whole answer is read, and the next step is taken on the same connection.
    Answer,
}

/// What a client at the door does.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) kind: &'static str,
    /// Names that only this attempt uses, with their answers.
    pub(crate) names: Vec<(String, Vec<Vec<&'static str>>)>,
    pub(crate) steps: Vec<Step>,
    /// Whether the proxy has to note a refusal. Some attempts end before there is anything to refuse.
    pub(crate) noted: bool,
}

/// Addresses that are nobody's business, in every spelling.
const ADDRESSES: [&str; 44] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0x0.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fd00:ec2::254]",
    "[::1",
    "::1",
    "127.0.0.1%00",
    "127%2e0%2e0%2e1",
    "127\u{3002}0\u{3002}0\u{3002}1",
    "\u{ff11}27.0.0.1",
    "45.33.32.156",
    "0x2d21209c",
    "[2606:4700::1]",
];

/// What allowed names answer when they are not to be trusted.
const ANSWERS: [&[&str]; 36] = [
    &["127.0.0.1"],
    &["127.255.0.9"],
    &["0.0.0.0"],
    &["10.0.0.1"],
    &["172.16.0.1"],
    &["172.31.255.255"],
    &["192.168.0.1"],
    &["169.254.169.254"],
    &["100.64.0.1"],
    &["192.0.0.8"],
    &["192.0.2.1"],
    &["192.88.99.1"],
    &["198.18.0.1"],
    &["198.51.100.1"],
    &["203.0.113.1"],
    &["224.0.0.1"],
    &["240.0.0.1"],
    &["255.255.255.255"],
    &["::1"],
    &["::"],
    &["::ffff:127.0.0.1"],
    &["::ffff:93.184.216.34"],
    &["::127.0.0.1"],
    &["64:ff9b::127.0.0.1"],
    &["64:ff9b:1::8.8.8.8"],
    &["2002:7f00:1::"],
    &["2001:0:1::1"],
    &["2001:db8::1"],
    &["fe80::1"],
    &["fec0::1"],
    &["fd00::1"],
    &["ff02::1"],
    &["2606:4700::5efe:10.0.0.1"],
    &["93.184.216.34", "127.0.0.1"],
    &["10.0.0.1", "93.184.216.34"],
    &["93.184.216.34", "::1"],
];

/// Hosts that are not on the list, in spellings that a careless reader takes for one that is.
const HOSTS: [&str; 40] = [
    "evil.example",
    "good.example.evil.example",
    "evilgood.example",
    "xgood.example",
    "good.examplex",
    "wild.example",
    "xwild.example",
    "good.example.",
    "good.example..",
    "GOOD.example",
    "Good.Example",
    "evil.example#good.example",
    "evil.example?good.example",
    "evil.example/good.example",
    "evil.example\\good.example",
    "good.example\\.evil.example",
    "good.example@evil.example",
    "good.example:80@evil.example",
    "u:p@good.example@evil.example",
    "evil.example:80:80",
    "good.example%00.evil.example",
    "good.example\0.evil.example",
    "good.example\t.evil.example",
    "good.example%2eevil.example",
    "good_example",
    "-good.example",
    "good.example-",
    ".good.example",
    "a..wild.example",
    "*.wild.example",
    "g\u{f6}od.example",
    "good\u{3002}example",
    "\u{ff47}ood.example",
    "go\u{ad}od.example",
    "good.example\u{200b}",
    "xn--good-.example",
    "localhost",
    "metadata.google.internal",
    "good",
    "kubernetes.default.svc",
];

const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"];

/// Framings of a POST behind whose body another request hides, to one reader or another.
const SMUGGLES: [&str; 26] = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{}",
    "Content-Length: 0\r\nContent-Length: 99\r\n\r\n{}",
    "Content-Length: 0\r\nContent-Length: 0\r\n\r\n{}",
    "Content-Length: 0, 99\r\n\r\n{}",
    "Content-Length: +0\r\n\r\n{}",
    "Content-Length: 0x0\r\n\r\n{}",
    "Content-Length:\r\n\r\n{}",
    "Content-Length: 00\r\n\r\n{}",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{}",
    " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{}",
    "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
    "X: y\rContent-Length: 99\r\n\r\n{}",
    "X: y\0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n0;\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n 0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n0\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n{}",
    "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 99\r\n\r\n{}",
];

/// Bytes of other protocols.
const OTHERS: [&[u8]; 14] = [
    b"\x05\x01\x00",
    b"\x05\x01\x00\x03\x0cevil.example\x00\x50",
    b"\x04\x01\x00\x50\x2d\x21\x20\x9c\x00",
    b"\x04\x01\x00\x50\x00\x00\x00\x01\x00evil.example\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"EHLO evil.example\r\n",
    b"GET /\r\n",
    b"GET http://evil.example/\r\n\r\n",
    b"GET http://evil.example/ HTTP/0.9\r\n\r\n",
    b"\r\nGET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04evil\x07example\x00\x00\x01\x00\x01",
];

/// A place where a request can be made: at the door, in a tunnel of plain bytes, in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Door,
    Plain,
    Tls,
}

struct Generator {
    random: StdRng,
    number: usize,
}

/// So many attempts.
pub(crate) fn generate(seed: u64, count: usize) -> Vec<Attempt> {
    let mut generator = Generator {
        random: StdRng::seed_from_u64(seed),
        number: 0,
    };
    let kinds = [
        Generator::address,
        Generator::answer,
        Generator::rebinding,
        Generator::host,
        Generator::other_name,
        Generator::smuggling,
        Generator::pipelining,
        Generator::port,
        Generator::protocol,
        Generator::upgrade,
        Generator::nested,
        Generator::eager,
        Generator::redirect,
        Generator::odd_request,
    ];
    let one = |number: usize| {
        generator.number = number;
        kinds[number % kinds.len()](&mut generator)
    };
    (0..count).map(one).collect()
}

fn attempt(kind: &'static str, steps: Vec<Step>) -> Attempt {
    Attempt {
        kind,
        names: Vec::new(),
        steps,
        noted: true,
    }
}

fn text(text: impl Into<String>) -> Step {
    Step::Send(text.into().into_bytes())
}

impl Generator {
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        *list.choose(&mut self.random).expect("a list")
    }

    fn place(&mut self) -> Place {
        self.pick(&[Place::Door, Place::Plain, Place::Tls])
    }

    /// The steps to a place where the good host is spoken to.
    fn enter(place: Place) -> Vec<Step> {
        match place {
            Place::Door => vec![],
            Place::Plain => vec![Step::Connect("good.example:80".into())],
            Place::Tls => vec![
                Step::Connect("good.example:443".into()),
                Step::Tls("good.example".into()),
            ],
        }
    }

    /// A request for a host, as it is written at that place.
    fn request(&mut self, place: Place, host: &str, path: &str) -> String {
        let method = self.pick(&METHODS);
        let absolute = match place {
            Place::Door => true,
            _ => self.random.random_bool(0.5),
        };
        let scheme = if place == Place::Tls { "https" } else { "http" };
        match absolute {
            true => format!("{method} {scheme}://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            false => format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        }
    }

    fn address(&mut self) -> Attempt {
        let host = self.pick(&ADDRESSES);
        attempt("address", self.towards(host))
    }

    fn host(&mut self) -> Attempt {
        let host = self.pick(&HOSTS);
        attempt("host", self.towards(host))
    }

    /// Some way to ask for a host.
    fn towards(&mut self, host: &str) -> Vec<Step> {
        let port = self.pick(&[80, 443]);
        match self.random.random_range(0..6) {
            0 => vec![text(format!(
                "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
            ))],
            1 => vec![text(format!("CONNECT {host}:{port} HTTP/1.0\r\n\r\n"))],
            2 => vec![text(format!("GET http://{host}/ HTTP/1.0\r\n\r\n"))],
            3 => vec![text(format!(
                "GET http://good.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
            ))],
            _ => {
                let place = self.place();
                let mut steps = Self::enter(place);
                steps.push(text(self.request(place, host, "/")));
                steps
            }
        }
    }

    fn answer(&mut self) -> Attempt {
        let name = format!("n{}.wild.example", self.number);
        let answer = self.pick(&ANSWERS).to_vec();
        let steps = match self.random.random_range(0..3) {
            0 => vec![text(format!(
                "CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n"
            ))],
            1 => vec![text(format!(
                "CONNECT {name}:80 HTTP/1.1\r\nHost: {name}:80\r\n\r\n"
            ))],
            _ => vec![text(self.request(Place::Door, &name, "/"))],
        };
        Attempt {
            names: vec![(name, vec![answer])],
            ..attempt("answer", steps)
        }
    }

    /// A name that is the good host's first, and somebody else's at the next dial.
    fn rebinding(&mut self) -> Attempt {
        let name = format!("r{}.wild.example", self.number);
        let second = self.pick(&ANSWERS).to_vec();
        let post =
            format!("POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: 1\r\n\r\nx");
        let steps = match self.random.random_bool(0.5) {
            true => vec![text(post.clone()), Step::Answer, text(post)],
            false => {
                let inside =
                    format!("POST /x HTTP/1.1\r\nHost: {name}\r\nContent-Length: 1\r\n\r\nx");
                let tls = vec![
                    Step::Connect(format!("{name}:443")),
                    Step::Tls(name.clone()),
                ];
                tls.into_iter()
                    .chain([text(inside.clone()), Step::Answer, text(inside)])
                    .collect()
            }
        };
        let names = vec![(name, vec![vec![crate::bed::GOOD], second])];
        Attempt {
            names,
            ..attempt("rebinding", steps)
        }
    }

    /// Names that disagree: of the tunnel, of TLS, of the request.
    fn other_name(&mut self) -> Attempt {
        let evil = self.pick(&[
            "evil.example",
            "a.wild.example",
            "b.wild.example",
            "wild.example",
            "good.example.evil.example",
        ]);
        let steps = match self.random.random_range(0..5) {
            0 => vec![
                Step::Connect("good.example:443".into()),
                Step::Tls(evil.into()),
            ],
            1 => vec![
                Step::Connect("good.example:80".into()),
                Step::Tls(evil.into()),
            ],
            2 => vec![text(format!(
                "CONNECT good.example:443 HTTP/1.1\r\nHost: {evil}:443\r\n\r\n"
            ))],
            3 => vec![
                Step::Connect("pinned.wild.example:443".into()),
                Step::Tls(evil.into()),
            ],
            _ => {
                let place = self.place();
                let mut steps = Self::enter(place);
                let path = self.pick(&[
                    "http://good.example/",
                    "https://good.example/",
                    "http://evil.example/",
                    "https://evil.example/",
                ]);
                steps.push(text(format!("GET {path} HTTP/1.1\r\nHost: {evil}\r\n\r\n")));
                steps
            }
        };
        let names = vec![(
            "pinned.wild.example".to_owned(),
            vec![vec![crate::bed::GOOD]],
        )];
        Attempt {
            names,
            ..attempt("other name", steps)
        }
    }

    fn smuggling(&mut self) -> Attempt {
        let place = self.place();
        let mut steps = Self::enter(place);
        let hidden = match place {
            Place::Door => {
                "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n"
            }
            _ => "GET /smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n",
        };
        let rest = self.pick(&SMUGGLES).replace("{}", hidden);
        let target = if place == Place::Door {
            "http://good.example/"
        } else {
            "/"
        };
        steps.push(text(format!(
            "POST {target} HTTP/1.1\r\nHost: good.example\r\n{rest}"
        )));
        attempt("smuggling", steps)
    }

    /// A refused request among others: what follows it is not used.
    fn pipelining(&mut self) -> Attempt {
        let place = self.place();
        let mut steps = Self::enter(place);
        let evil = self.pick(&[
            "evil.example",
            "127.0.0.1",
            "good.example.",
            "169.254.169.254",
        ]);
        let refused = self.request(place, evil, "/");
        let (good, hidden) = match place {
            Place::Door => (
                "http://good.example/bytes/10",
                "http://good.example/smuggled",
            ),
            _ => ("/bytes/10", "/smuggled"),
        };
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: good.example\r\n\r\n");
        let first = if self.random.random_bool(0.5) {
            get(good)
        } else {
            String::new()
        };
        steps.push(text(format!("{first}{refused}{}", get(hidden))));
        attempt("pipelining", steps)
    }

    fn port(&mut self) -> Attempt {
        let port = self.pick(&[
            "22", "25", "0", "65536", "8080", "443443", "080", "+80", "-1", "3128", "6379", "53",
            "", "80 ", "0x50",
        ]);
        let steps = match self.random.random_bool(0.5) {
            true => vec![text(format!(
                "CONNECT good.example:{port} HTTP/1.1\r\nHost: good.example:{port}\r\n\r\n"
            ))],
            false => vec![text(format!(
                "GET http://good.example:{port}/ HTTP/1.1\r\nHost: good.example:{port}\r\n\r\n"
            ))],
        };
        attempt("port", steps)
    }

    fn protocol(&mut self) -> Attempt {
        let place = self.place();
        let mut steps = Self::enter(place);
        let mut bytes = self.pick(&OTHERS).to_vec();
        if self.random.random_bool(0.2) {
            bytes = (0..self.random.random_range(8..200))
                .map(|_| self.random.random())
                .collect();
            // The first byte of TLS would be TLS that begins, which is told apart above.
            bytes[0] |= 0x80;
        }
        steps.push(Step::Send(bytes));
        steps.push(Step::Shut);
        // What ends in the middle of a head was no request, and there is nothing to refuse.
        Attempt {
            noted: false,
            ..attempt("protocol", steps)
        }
    }

    fn upgrade(&mut self) -> Attempt {
        let place = self.place();
        let mut steps = Self::enter(place);
        let (host, protocol) = self.pick(&[
            ("evil.example", "websocket"),
            ("127.0.0.1", "websocket"),
            ("good.example", "h2c"),
            ("good.example", "TLS/1.0"),
            ("good.example", "websocket, h2c"),
            ("good.example.", "websocket"),
        ]);
        let target = if place == Place::Door {
            format!("http://{host}/ws")
        } else {
            "/ws".to_owned()
        };
        steps.push(text(format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Key: x\r\n\
             Sec-WebSocket-Version: 13\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n"
        )));
        attempt("upgrade", steps)
    }

    /// Tunnels in tunnels.
    fn nested(&mut self) -> Attempt {
        let place = self.pick(&[Place::Plain, Place::Tls]);
        let mut steps = Self::enter(place);
        let evil = self.pick(&[
            "evil.example:443",
            "127.0.0.1:80",
            "good.example:443",
            "a.wild.example:80",
        ]);
        match self.random.random_bool(0.5) {
            true => steps.push(text(format!(
                "CONNECT {evil} HTTP/1.1\r\nHost: {evil}\r\n\r\n"
            ))),
            false => {
                steps = Self::enter(Place::Tls);
                steps.push(Step::Tls(
                    evil.split(':')
                        .next()
                        .unwrap_or_default()
                        .replace("127.0.0.1", "evil.example"),
                ));
            }
        }
        attempt("nested", steps)
    }

    /// What is sent before the tunnel is there.
    fn eager(&mut self) -> Attempt {
        let evil = self.pick(&[
            "evil.example:443",
            "good.example:443",
            "good.example:80",
            "127.0.0.1:80",
        ]);
        let after = self.pick(&[
            "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
            "\x16\x03\x01\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f",
        ]);
        let length = self.pick(&[
            "",
            "Content-Length: 10\r\n",
            "Transfer-Encoding: chunked\r\n",
        ]);
        let connect = format!("CONNECT {evil} HTTP/1.1\r\nHost: {evil}\r\n{length}\r\n{after}");
        attempt("eager", vec![text(connect), Step::Shut])
    }

    /// A redirect that a client follows.
    fn redirect(&mut self) -> Attempt {
        let evil = self.pick(&[
            "evil.example",
            "127.0.0.1",
            "localhost",
            "[::1]",
            "good.example.",
            "2130706433",
        ]);
        let place = self.place();
        let mut steps = Self::enter(place);
        let target = if place == Place::Door {
            "http://good.example"
        } else {
            ""
        };
        steps.push(text(format!(
            "GET {target}/redirect/{evil} HTTP/1.1\r\nHost: good.example\r\n\r\n"
        )));
        steps.push(Step::Answer);
        steps.push(text(self.request(place, evil, "/")));
        attempt("redirect", steps)
    }

    fn odd_request(&mut self) -> Attempt {
        let steps = match self.random.random_range(0..9) {
            0 => vec![text(
                "TRACE http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n",
            )],
            1 => vec![text("GET /smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n")],
            2 => vec![text(
                "GET https://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n",
            )],
            3 => vec![text(
                "GET ftp://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\n\r\n",
            )],
            4 => vec![text("GET http://good.example/smuggled HTTP/1.1\r\n\r\n")],
            5 => vec![text(
                "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n",
            )],
            6 => vec![text(
                "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\nConnection: host\r\n\r\n",
            )],
            7 => {
                let long = "a".repeat(self.random.random_range(70_000..200_000));
                vec![text(format!(
                    "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\nX: {long}\r\n\r\n"
                ))]
            }
            _ => {
                let host = format!(
                    "{}.wild.example",
                    "a".repeat(self.random.random_range(64..400))
                );
                vec![text(self.request(Place::Door, &host, "/smuggled"))]
            }
        };
        attempt("odd request", steps)
    }
}
