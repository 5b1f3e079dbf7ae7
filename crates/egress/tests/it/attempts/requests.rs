//! Kinds of attempts that are about requests: their framing, their order, their protocol, where they are made.

use rand::Rng as _;

use super::{Attempt, Generator, Place, Step, attempt, text};
use crate::spellings::{OTHERS, SMUGGLES};

impl Generator {
    pub(super) fn smuggling(&mut self) -> Attempt {
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
    pub(super) fn pipelining(&mut self) -> Attempt {
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

    pub(super) fn port(&mut self) -> Attempt {
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

    pub(super) fn protocol(&mut self) -> Attempt {
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

    pub(super) fn upgrade(&mut self) -> Attempt {
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
    pub(super) fn nested(&mut self) -> Attempt {
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
    pub(super) fn eager(&mut self) -> Attempt {
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
    pub(super) fn redirect(&mut self) -> Attempt {
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

    pub(super) fn odd_request(&mut self) -> Attempt {
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
