//! Attempts to reach what is refused, generated from a seed: every kind, with every spelling, in every place where a request
//! can be made.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::spellings::{ADDRESSES, ANSWERS, HOSTS, METHODS};

mod requests;

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
}
