//! Connections, the journal and the end of a supervisor.

use std::fs;
use std::io::{Read as _, Write as _};

use manyhands_sandboxd::frame::{self, Answer, Op, PROTOCOL, Request};
use manyhands_sandboxd::output::Output;
use serde_json::json;

use crate::supervisor::{Supervisor, execute};

#[test]
fn i4_a_call_runs_once_over_any_number_of_connections() {
    let supervisor = Supervisor::start();
    let append = json!({"command": "echo line >> file; read x < go; wc -l < file"});
    let mut first = supervisor.connect();
    assert_eq!(first.bash("pipe", "mkfifo go"), Output::text(""));
    first.send(execute("call", 1, "bash", append.clone()));
    drop(first);
    // A later owner attaches to the running call, and another to the finished one.
    let mut second = supervisor.connect();
    second.send(execute("call", 2, "bash", append.clone()));
    fs::write(supervisor.path("go"), "now\n").unwrap();
    let expected = Answer::Output {
        output: Output::text("1"),
    };
    assert_eq!(second.reply().answer, expected);
    let mut third = supervisor.connect();
    assert_eq!(
        third.ask(execute("call", 2, "bash", append.clone())),
        expected
    );

    let forget = Op::Forget {
        call_ids: vec!["call".to_owned()],
        epoch: 2,
    };
    assert_eq!(third.ask(forget), Answer::Done);
    assert!(matches!(
        third.ask(execute("call", 2, "bash", append)),
        Answer::Refused { .. }
    ));
    assert_eq!(
        fs::read_to_string(supervisor.path("file")).unwrap(),
        "line\n"
    );
}

#[test]
fn lease_1_an_older_epoch_is_refused() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    connection.ask(execute("a", 5, "bash", json!({"command": "true"})));
    let stale = Answer::StaleEpoch { seen: 5 };
    assert_eq!(
        connection.ask(execute("b", 4, "bash", json!({"command": "touch never"}))),
        stale
    );
    assert_eq!(
        connection.ask(Op::Kill {
            call_id: "a".to_owned(),
            epoch: 4
        }),
        stale
    );
    assert_eq!(
        connection.ask(Op::Forget {
            call_ids: Vec::new(),
            epoch: 4
        }),
        stale
    );
    let variables = frame::Variables::default();
    assert_eq!(
        connection.ask(Op::Set {
            variables,
            epoch: 4
        }),
        stale
    );
    assert_eq!(connection.ask(Op::Shutdown { epoch: 4 }), stale);
    assert!(!supervisor.path("never").exists());
}

#[test]
fn bash_calls_run_in_order_and_the_others_beside_them() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    connection.bash("pipe", "mkfifo go");
    let waits = connection.send(execute(
        "a",
        1,
        "bash",
        json!({"command": "read x < go; echo a >> order"}),
    ));
    let after = connection.send(execute(
        "b",
        1,
        "bash",
        json!({"command": "echo b >> order; cat order"}),
    ));
    let write = json!({"file_path": "beside", "content": "now\n"});
    let beside = connection.send(execute("c", 1, "write", write));
    let reply = connection.reply();
    assert_eq!(
        (reply.id, reply.answer),
        (
            beside,
            Answer::Output {
                output: Output::text("wrote 4 bytes to beside")
            }
        )
    );
    fs::write(supervisor.path("go"), "now\n").unwrap();
    assert_eq!(connection.reply().id, waits);
    let reply = connection.reply();
    assert_eq!(
        (reply.id, reply.answer),
        (
            after,
            Answer::Output {
                output: Output::text("a\nb")
            }
        )
    );
}

#[test]
fn sbx_5_a_connection_that_does_not_speak_the_language_is_closed() {
    #[track_caller]
    fn check(bytes: &[u8]) {
        let supervisor = Supervisor::start();
        let mut stream = supervisor.dial();
        stream.write_all(bytes).unwrap();
        // With what was sent left unread, the close arrives as a reset.
        match stream.read(&mut [0; 16]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(
            supervisor.connect().bash("next", "echo fine"),
            Output::text("fine")
        );
    }
    check(b"GET / HTTP/1.1\r\n\r\n");
    check(&[0xff; 8]);
    check(
        &frame::encode(&Request {
            id: 1,
            op: Op::Forget {
                call_ids: Vec::new(),
                epoch: 9,
            },
        })
        .unwrap(),
    );

    let supervisor = Supervisor::start();
    let mut stream = supervisor.dial();
    frame::write(
        &mut stream,
        &Request {
            id: 1,
            op: Op::Hello {
                protocol: PROTOCOL + 1,
            },
        },
    )
    .unwrap();
    let reply: frame::Reply = frame::read(&mut stream).unwrap().unwrap();
    assert!(matches!(reply.answer, Answer::Refused { .. }), "{reply:?}");
}

#[test]
fn tl_5_an_unknown_tool_and_bad_input_are_error_results() {
    #[track_caller]
    fn check(name: &str, input: serde_json::Value, expected: &str) {
        let answer = Supervisor::start()
            .connect()
            .ask(execute("call", 1, name, input));
        assert_eq!(
            answer,
            Answer::Output {
                output: Output::error(expected)
            }
        );
    }
    check("web_fetch", json!({}), "unknown tool 'web_fetch'");
    check(
        "read",
        json!({}),
        "read: invalid input: missing field `file_path`",
    );
}

#[test]
fn it_ends_when_told_to() {
    let mut supervisor = Supervisor::start();
    assert_eq!(
        supervisor.connect().ask(Op::Shutdown { epoch: 1 }),
        Answer::Done
    );
    assert!(supervisor.ended().success());
}

#[test]
fn it_ends_alone_but_not_while_a_call_runs() {
    let mut supervisor = Supervisor::with(&["--idle-seconds", "1"], &[]);
    let mut connection = supervisor.connect();
    connection.bash("pipes", "mkfifo late go");
    // Longer than the idle limit, with nobody connected; then it runs until somebody is.
    let input = json!({"command": "sleep 1.5; echo late > late; read x < go; echo over"});
    connection.send(execute("call", 1, "bash", input.clone()));
    drop(connection);
    assert_eq!(
        fs::read_to_string(supervisor.path("late")).unwrap(),
        "late\n"
    );
    let mut connection = supervisor.connect();
    connection.send(execute("call", 1, "bash", input));
    fs::write(supervisor.path("go"), "now\n").unwrap();
    let over = Answer::Output {
        output: Output::text("over"),
    };
    assert_eq!(connection.reply().answer, over);
    drop(connection);
    assert!(supervisor.ended().success());
}
