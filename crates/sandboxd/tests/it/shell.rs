//! `bash`, runtime TL-10 to TL-13, and what ends with a call, security TOOL-1.

use std::fs;
use std::io::{BufRead as _, BufReader};

use manyhands_sandboxd::frame::{Answer, Op, Variables};
use manyhands_sandboxd::output::Output;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::supervisor::{Supervisor, execute, gone, text};

/// A named pipe; reading a line of it waits for a command to write one.
fn pipe(supervisor: &Supervisor, name: &str) -> std::path::PathBuf {
    let path = supervisor.path(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    path
}

fn line(path: &std::path::Path) -> String {
    let mut line = String::new();
    BufReader::new(fs::File::open(path).unwrap())
        .read_line(&mut line)
        .unwrap();
    line.trim_end().to_owned()
}

#[test]
fn tl_10_one_persistent_shell() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    let steps = [
        (
            "mkdir -p sub && cd sub && export A=1 && b=2 && f() { echo \"f $1\"; }",
            "(no output)",
        ),
        ("echo $A $b; f x; basename \"$PWD\"", "1 2\nf x\nsub"),
        ("echo out; echo err >&2", "out\nerr"),
        ("cat; read x; echo \"[$x]\"", "[]"),
        ("printf '\\033[31mred\\033[0m\\n\\n'", "red"),
        ("exec >/dev/null 2>&1; echo lost", "(no output)"),
        ("echo back", "back"),
        (
            "read() { echo mine; }; eval() { echo mine; }; printf() { echo mine; }",
            "(no output)",
        ),
        ("echo still works", "still works"),
        (
            "cat <<'END'\n'quotes' \"and\" $dollars `ticks` \\\nEND",
            "'quotes' \"and\" $dollars `ticks` \\",
        ),
    ];
    for (number, (command, expected)) in steps.into_iter().enumerate() {
        let output = connection.bash(&format!("call-{number}"), command);
        assert_eq!(output, Output::text(expected), "{command}");
    }
    let first = text(&connection.bash("pid-1", "echo $$")).to_owned();
    assert_eq!(text(&connection.bash("pid-2", "echo $$")), first);
}

#[test]
fn tl_10_long_output_keeps_its_end_and_tl_3_spills() {
    let supervisor = Supervisor::start();
    let output = supervisor.connect().bash("call", "seq 1 100000");
    let mut lines = text(&output).lines();
    assert_eq!(lines.next(), Some("[output truncated]"));
    let note = lines.next().unwrap();
    assert_eq!(lines.next_back(), Some("100000"));
    let path = note
        .strip_prefix("[full output: 588895 characters, in ")
        .unwrap()
        .strip_suffix(']')
        .unwrap();
    let whole = fs::read_to_string(path).unwrap();
    assert!(whole.starts_with("1\n2\n") && whole.ends_with("\n100000\n"));
}

#[test]
fn tl_11_a_timeout_kills_the_shell_and_the_next_call_gets_a_fresh_one() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    connection.bash("set", "x=1; cd /");
    let output = connection.run(
        "slow",
        json!({"command": "echo started; sleep 1000", "timeout_ms": 2500}),
    );
    assert_eq!(
        output,
        Output::error("bash: command timed out after 2.5s\nstarted")
    );
    let root = supervisor.path("").canonicalize().unwrap();
    assert_eq!(
        text(&connection.bash("next", "echo \"[$x]\"; pwd -P")),
        format!("[]\n{}", root.display())
    );
}

#[test]
fn tl_12_statuses_restart_and_dead_shells() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    assert_eq!(
        connection.bash("a", "echo partial; (exit 3)"),
        Output::error("partial")
    );
    assert_eq!(connection.bash("b", "false"), Output::error("(no output)"));
    assert_eq!(connection.bash("c", "if"), {
        Output::error("bash: eval: line 2: syntax error: unexpected end of file")
    });
    assert_eq!(
        connection.run("d", json!({})),
        Output::error("bash: command is required")
    );
    assert_eq!(
        connection.run("e", json!({"command": ""})),
        Output::error("bash: command is required")
    );
    assert_eq!(
        connection.run("f", json!({"restart": true})),
        Output::text("bash session restarted")
    );

    let dead = "bash: session terminated; restart required (call bash with restart: true)";
    assert_eq!(
        connection.bash("g", "x=1; echo bye; exit 0"),
        Output::error(format!("bye\n{dead}"))
    );
    assert_eq!(connection.bash("h", "echo anything"), Output::error(dead));
    assert_eq!(
        connection.run("i", json!({"restart": true})),
        Output::text("bash session restarted")
    );
    assert_eq!(connection.bash("j", "echo \"[$x]\""), Output::text("[]"));
    let nul = connection.run("k", json!({"command": "echo \0"}));
    assert_eq!(nul, Output::error("bash: command must not contain NUL"));
}

#[test]
fn tl_13_no_platform_credentials_in_the_environment() {
    let secret = [
        ("ANTHROPIC_API_KEY", "canary-1"),
        ("ANTHROPIC_OTHER", "canary-2"),
        ("HARMLESS", "kept"),
    ];
    let supervisor = Supervisor::with(&[], &secret);
    let output = supervisor.connect().bash("call", "env");
    assert!(
        !text(&output).contains("canary") && text(&output).contains("HARMLESS=kept"),
        "{output:?}"
    );
}

#[test]
fn tl_20_the_outer_limit_of_a_call() {
    let supervisor = Supervisor::start();
    let op = Op::Execute {
        call_id: "call".to_owned(),
        epoch: 1,
        name: "bash".to_owned(),
        input: json!({"command": "sleep 1000"}),
        timeout_ms: 200,
    };
    let mut connection = supervisor.connect();
    assert_eq!(
        connection.ask(op),
        Answer::Output {
            output: Output::error("tool 'bash' timed out")
        }
    );
    assert_eq!(connection.bash("next", "echo on"), Output::text("on"));
}

#[test]
fn tool_1_a_service_lives_on_and_holds_no_call_open() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    let go = pipe(&supervisor, "go");
    let said = pipe(&supervisor, "said");
    // It keeps the standard output it inherited, and writes to it after the call has ended.
    let start = "(read x < go; echo noise; echo alive > said; sleep 1000) & echo $!";
    let service = text(&connection.bash("start", start)).to_owned();
    fs::write(&go, "now\n").unwrap();
    assert_eq!(line(&said), "alive");
    // It survives the time-out of a later call and the end of its shell.
    connection.run("slow", json!({"command": "sleep 1000", "timeout_ms": 100}));
    connection.run("again", json!({"restart": true}));
    assert_eq!(
        connection.bash("check", &format!("kill -0 {service} && echo alive")),
        Output::text("alive")
    );
    connection.bash("end", &format!("kill -9 {service}"));
    gone(&service);
}

#[test]
fn tool_1_a_kill_ends_the_whole_tree_and_the_next_call_works() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    let pids = pipe(&supervisor, "pids");
    // A child, a grandchild, and one that has cut every tie.
    let command = "sleep 1001 & a=$!; (sleep 1002; true) & b=$!; \
        setsid -f bash -c 'echo $$ > daemon; echo ready > ready; exec sleep 1003'; \
        read x < ready; echo $a $b $(cat daemon) > pids; wait";
    pipe(&supervisor, "ready");
    let running = connection.send(execute("tree", 1, "bash", json!({"command": command})));
    let queued = connection.send(execute(
        "queued",
        1,
        "bash",
        json!({"command": "touch never"}),
    ));
    let pids = line(&pids);
    assert_eq!(pids.split(' ').count(), 3, "{pids}");
    let killed = [
        connection.send(Op::Kill {
            call_id: "queued".to_owned(),
            epoch: 1,
        }),
        connection.send(Op::Kill {
            call_id: "tree".to_owned(),
            epoch: 1,
        }),
        connection.send(Op::Kill {
            call_id: "unknown".to_owned(),
            epoch: 1,
        }),
    ];
    for _ in 0..5 {
        let reply = connection.reply();
        let interrupted = Answer::Output {
            output: Output::error("tool 'bash' was interrupted"),
        };
        let expected = if [running, queued].contains(&reply.id) {
            interrupted
        } else {
            Answer::Done
        };
        assert_eq!(reply.answer, expected, "of {} in {killed:?}", reply.id);
    }
    pids.split(' ').for_each(gone);
    assert_eq!(
        connection.bash("next", "ls never 2>/dev/null || echo none"),
        Output::text("none")
    );
}

#[test]
fn sbx_3_limits_of_what_a_command_starts() {
    let limits = [
        "--open-files",
        "128",
        "--file-bytes",
        "4096",
        "--processes",
        "4000",
    ];
    let supervisor = Supervisor::with(&limits, &[]);
    let mut connection = supervisor.connect();
    assert_eq!(
        connection.bash("n", "ulimit -n; ulimit -u; ulimit -c"),
        Output::text("128\n4000\n0")
    );
    assert!(
        connection
            .bash("f", "head -c 8192 /dev/zero > big")
            .is_error
    );
    assert_eq!(fs::metadata(supervisor.path("big")).unwrap().len(), 4096);
    let score = connection.bash("o", "cat /proc/$$/oom_score_adj");
    assert_eq!(
        score,
        Output::text("1000"),
        "the memory killer takes a tool before its supervisor"
    );
}

/// runtime VA-9: variables reach the shell that runs, between two calls, and those that are started later.
#[test]
fn va_9_variables_are_set_for_what_is_run_afterwards() {
    let supervisor = Supervisor::start();
    let mut connection = supervisor.connect();
    let set = |connection: &mut crate::supervisor::Connection, pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        connection.ask(Op::Set {
            variables: Variables(pairs.collect()),
            epoch: 1,
        })
    };
    let done = set(
        &mut connection,
        &[("API_KEY", "first"), ("ODD", "it's \"$HOME\"\n`x`")],
    );
    assert_eq!(done, Answer::Done);
    let show = "echo \"$API_KEY|$ODD\"; sh -c 'echo $API_KEY'";
    let expected = "first|it's \"$HOME\"\n`x`\nfirst";
    assert_eq!(connection.bash("a", show), Output::text(expected));
    connection.bash("b", "kept=here");
    assert_eq!(set(&mut connection, &[("API_KEY", "second")]), Answer::Done);
    let output = connection.bash("c", "echo $API_KEY $kept; sh -c 'echo $API_KEY'");
    assert_eq!(output, Output::text("second here\nsecond"));
    let restart = execute("d", 1, "bash", json!({"restart": true}));
    connection.ask(restart);
    let output = connection.bash("e", "echo $API_KEY $ODD.");
    assert_eq!(output, Output::text("second ."));
    assert!(matches!(
        set(&mut connection, &[("A;touch never", "x")]),
        Answer::Refused { .. }
    ));
}
