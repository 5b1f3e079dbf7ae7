//! What a sandbox cannot see or do, security SBX-1, SBX-2 and SBX-8.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use manyhands_hands::provider::Strength;
use manyhands_hands::provider::namespace::{Config, Namespace, ReadOnly};
use manyhands_hands::{Error, Provider};

use crate::host::{Host, program, refusal, run, text};

fn bound(from: &Path, to: &str) -> ReadOnly {
    ReadOnly {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn sbx_1_a_sandbox_has_its_own_everything() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    let spaces = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"];
    let pid = host.process("sesn_a").unwrap().as_raw_nonzero();
    for space in spaces {
        let [ours, theirs] = ["self".to_owned(), pid.to_string()]
            .map(|pid| fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("a name space"));
        assert_ne!(ours, theirs, "{space}");
    }
    assert_eq!(host.status("sesn_a", "NoNewPrivs"), "1");
    assert_eq!(host.status("sesn_a", "Seccomp"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(host.status("sesn_a", set), "0000000000000000", "{set}");
    }
    assert_eq!(
        host.status("sesn_a", "NSpid").split(' ').next_back(),
        Some("1"),
        "sandboxd is process 1"
    );
    assert_eq!(
        text(&run(&sandbox, "id -un; id -u; hostname; echo $HOME; pwd").await),
        { "agent\n1000\nsandbox\n/home/agent\n/workspace" }
    );
    let processes = text(&run(&sandbox, "ls /proc | grep -c '^[0-9]'").await)
        .parse::<u32>()
        .unwrap();
    assert!(processes < 8, "a fresh /proc, not the host's: {processes}");
}

#[tokio::test]
async fn no_id_of_a_sandbox_is_the_hosts_root() {
    let host = Host::new();
    host.sandbox("sesn_a").await;
    let owner = fs::metadata(host.folder("sesn_a").join("writable"))
        .unwrap()
        .uid();
    assert_ne!(owner, 0);
    assert_eq!(
        host.status("sesn_a", "Uid"),
        [owner.to_string().as_str(); 4].join(" ")
    );
    if is_root() {
        assert_eq!(
            host.status("sesn_a", "Groups"),
            "",
            "no group of the server's"
        );
        assert!((2_000_000..3_000_000).contains(&owner), "{owner}");
        host.sandbox("sesn_b").await;
        assert_ne!(
            fs::metadata(host.folder("sesn_b").join("writable"))
                .unwrap()
                .uid(),
            owner
        );
    }
}

#[tokio::test]
async fn sbx_5_process_1_has_only_the_descriptors_it_was_meant_to_have() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    run(&sandbox, "true").await;
    // Its process lets only root look at it from outside.
    if is_root() {
        let pid = host.process("sesn_a").unwrap().as_raw_nonzero();
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets: Vec<String> = entries
            .flatten()
            // It opens and closes descriptors while it is looked at: what is closed by now is nothing it has.
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|target| target.display().to_string())
            .collect();
        assert!(!targets.is_empty(), "process 1 has descriptors");
        for target in targets {
            let meant = [
                "/dev/null",
                "socket:",
                "pipe:",
                "anon_inode:[eventfd]",
                "/memfd:command",
            ];
            assert!(
                meant.iter().any(|kind| target.starts_with(kind)),
                "{target}"
            );
        }
    }
    let inside = run(
        &sandbox,
        "ls -l /proc/self/fd | tail -n +2 | grep -o '[^ ]*$'",
    )
    .await;
    for target in text(&inside).lines() {
        let meant =
            target == "/dev/null" || target.starts_with("pipe:") || target.starts_with("/proc/");
        assert!(meant, "{target} in {inside:?}");
    }
}

#[tokio::test]
async fn nothing_of_the_server_or_the_host_is_visible() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    // Cargo gives every test this variable, so it stands for the server's secrets.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    let environments = run(
        &sandbox,
        "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
    )
    .await;
    assert!(
        !text(&environments).contains("CARGO_PKG_NAME"),
        "{environments:?}"
    );
    // Its process lets only root look at it from outside.
    if is_root() {
        let pid = host.process("sesn_a").unwrap().as_raw_nonzero();
        let outside = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(!outside.contains("CARGO_PKG_NAME"), "{outside}");
    }

    let data = host.data.path().display().to_string();
    let home = std::env::var("HOME").unwrap();
    for hidden in [
        &data,
        &home,
        "/root",
        "/etc/shadow",
        "/etc/npmrc",
        "/etc/ssl/private",
        "/sys",
        "/boot",
        "/opt",
    ] {
        let seen = run(&sandbox, &format!("ls -d {hidden} && echo visible")).await;
        assert!(!text(&seen).contains("visible"), "{hidden}: {seen:?}");
    }
    assert_eq!(
        text(&run(&sandbox, "ls /home; ls -A /home/agent").await),
        "agent"
    );
    let memory = run(
        &sandbox,
        "head -c1 /proc/1/mem; cat /proc/1/maps; ls /proc/1/fd",
    )
    .await;
    assert_eq!(
        text(&memory).matches("Permission denied").count(),
        3,
        "{memory:?}"
    );
}

#[tokio::test]
async fn only_the_sessions_folders_are_writable() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    for folder in [
        "/workspace",
        "/tmp",
        "/home/agent",
        "/mnt/session/outputs",
        "/var/tmp",
        "/dev/shm",
    ] {
        let written = run(
            &sandbox,
            &format!("touch {folder}/probe && rm {folder}/probe"),
        )
        .await;
        assert!(!written.is_error, "{folder}: {written:?}");
    }
    for folder in [
        "/",
        "/usr",
        "/etc",
        "/bin",
        "/run",
        "/run/manyhands",
        "/mnt",
        "/mnt/session",
        "/home",
        "/dev",
        "/var",
    ] {
        let written = run(&sandbox, &format!("touch {folder}/probe")).await;
        assert!(written.is_error, "{folder}: {written:?}");
    }
    let replaced = run(&sandbox, "cp /bin/true /run/manyhands/sandboxd").await;
    assert!(replaced.is_error, "{replaced:?}");
}

#[tokio::test]
async fn there_is_no_network() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = run(
        &sandbox,
        &format!("(exec 9<>/dev/tcp/127.0.0.1/{port}) && echo reached"),
    )
    .await;
    assert!(
        reached.is_error && !text(&reached).contains("reached"),
        "{reached:?}"
    );
    let name = format!("manyhands-test-{port}");
    let _abstract =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let connect = format!(
        "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"\\0{name}\"); print(\"reached\")'"
    );
    let reached = run(&sandbox, &connect).await;
    assert!(
        reached.is_error && text(&reached).contains("ConnectionRefusedError"),
        "{reached:?}"
    );
    let interfaces = run(
        &sandbox,
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route",
    )
    .await;
    assert_eq!(text(&interfaces), "lo", "one interface and no route");
}

#[tokio::test]
async fn sbx_1_the_filter_refuses_what_is_not_needed() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    // The number of the call and of the error: 1 not permitted, 38 no such call, 97 no such family.
    for (call, expected) in [
        ("syscall(165, 0, 0, 0, 0, 0)", 1),
        ("syscall(272, 0x10000000)", 1),
        ("syscall(56, 0x10000011, 0, 0, 0, 0)", 1),
        ("syscall(101, 0, 0, 0, 0)", 1),
        ("syscall(250, 0, 0, 0, 0, 0)", 1),
        ("syscall(321, 0, 0, 0)", 1),
        ("syscall(323, 0)", 1),
        ("syscall(298, 0, 0, 0, 0, 0)", 1),
        ("syscall(16, 0, 0x5412, 0)", 1),
        ("syscall(435, 0, 0)", 38),
        ("syscall(425, 1, 0)", 38),
        ("syscall(9999)", 38),
        ("syscall(41, 40, 1, 0)", 97),
        ("syscall(41, 16, 3, 9)", 97),
        ("syscall(41, 17, 3, 0)", 97),
    ] {
        let program = format!(
            "import ctypes; c = ctypes.CDLL(None, use_errno=True); r = c.{call}; print(r, ctypes.get_errno())"
        );
        let output = run(&sandbox, &format!("python3 -c '{program}'")).await;
        assert_eq!(text(&output), format!("-1 {expected}"), "{call}");
    }
    let nested = run(
        &sandbox,
        "unshare -U true; unshare -r true; bwrap --ro-bind / / true",
    )
    .await;
    assert!(nested.is_error, "{nested:?}");
}

#[tokio::test]
async fn what_agents_need_runs() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    let python = "python3 - <<'END'\nimport subprocess, threading, tempfile, socket, multiprocessing\n\
        t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
        print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout, end='')\n\
        a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))\n\
        q = multiprocessing.Queue(); p = multiprocessing.Process(target=q.put, args=(7,)); p.start(); print(q.get())\nEND";
    assert_eq!(text(&run(&sandbox, python).await), "thread\nchild\nb'x'\n7");
    let compiled = "printf '#include <stdio.h>\\nint main(void){puts(\"compiled\");}' > a.c && cc a.c -o a && ./a";
    assert_eq!(text(&run(&sandbox, compiled).await), "compiled");
    let server = "python3 - <<'END'\nimport socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n\
        threading.Thread(target=lambda: s.accept()[0].send(b'lo')).start()\n\
        print(socket.create_connection(s.getsockname()).recv(2))\nEND";
    assert_eq!(
        text(&run(&sandbox, server).await),
        "b'lo'",
        "the sandbox's own loopback"
    );
}

#[tokio::test]
async fn a_file_of_the_hosts_root_is_unreadable_to_a_root_server() {
    let host = Host::with(|config| config.read_only.push(bound("/etc".as_ref(), "/mnt/bound")));
    let sandbox = host.sandbox("sesn_a").await;
    assert!(
        !run(&sandbox, "cat /mnt/bound/passwd").await.is_error,
        "the folder itself is there"
    );
    let shadow = run(&sandbox, "cat /mnt/bound/shadow").await;
    assert!(
        shadow.is_error && text(&shadow).contains("Permission denied"),
        "{shadow:?}"
    );
}

/// A socket that is shown is a door: the words of a program inside reach the host through it, alone or in a folder, and
/// nothing of it can be changed from inside. One that is closed to others on the host stays closed.
#[tokio::test]
async fn sbx_1_a_socket_shown_read_only_can_be_connected_to_from_inside() {
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let door = |name: &str, mode: u32| {
        let path = room.path().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        listener
    };
    let (open, _closed) = (door("open", 0o666), door("closed", 0o600));
    let heard = std::thread::spawn(move || {
        let hear = |_| {
            let mut words = String::new();
            let (mut stream, _) = open.accept().unwrap();
            std::io::Read::read_to_string(&mut stream, &mut words).unwrap();
            words
        };
        (0..2).map(hear).collect::<Vec<String>>()
    });
    let socket = room.path().join("open");
    let host = Host::with(|config| {
        config.read_only.push(bound(room.path(), "/run/doors"));
        config.read_only.push(bound(&socket, "/opt/door"));
    });
    let sandbox = host.sandbox("sesn_a").await;
    let say = |path: &str, words: &str| {
        format!(
            "python3 -c 'import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(\"{path}\")\ns.sendall(b\"{words}\")'"
        )
    };
    for (path, words) in [("/run/doors/open", "in a folder"), ("/opt/door", "alone")] {
        let said = run(&sandbox, &say(path, words)).await;
        assert!(!said.is_error, "{path}: {said:?}");
    }
    assert_eq!(heard.join().unwrap(), ["in a folder", "alone"]);
    let removed = run(&sandbox, "rm /run/doors/open").await;
    assert!(
        removed.is_error && text(&removed).contains("Read-only file system"),
        "{removed:?}"
    );
    if is_root() {
        let closed = run(&sandbox, &say("/run/doors/closed", "no")).await;
        assert!(
            closed.is_error && text(&closed).contains("Permission denied"),
            "{closed:?}"
        );
    }
}

/// Only root can plant such a file and become an ordinary user; what an ordinary user's server does is what all the
/// other tests show when they are run by one.
#[tokio::test]
async fn a_planted_file_of_the_hosts_root_is_unreadable_as_root_and_as_an_ordinary_user() {
    let room = tempfile::tempdir().unwrap();
    let planted = room.path().join("planted");
    fs::create_dir(&planted).unwrap();
    fs::write(planted.join("flag"), "the flag").unwrap();
    fs::set_permissions(planted.join("flag"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(planted.join("open"), "for everybody").unwrap();
    for path in [room.path(), &planted] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let data = room.path().join("data");
    fs::create_dir(&data).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = room.path().join(name);
        // By another process: a child that a test beside this one forks would hold the file open for writing, and what is
        // written cannot be run.
        let copied = Command::new("cp").arg(from).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    };
    let example = copy(&program("examples/sandbox"), "sandbox");
    let sandboxd = copy(&program("manyhands-sandboxd"), "sandboxd");
    let ask = |mut command: Command, session: &str| {
        let look = "cat /mnt/bound/open; cat /mnt/bound/flag";
        command.args([data.to_str().unwrap(), session, "call", look]);
        command.args([
            "--bind",
            planted.to_str().unwrap(),
            "--sandboxd",
            sandboxd.to_str().unwrap(),
        ]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        said
    };
    let check = async |said: String, readable: bool| {
        assert!(said.contains("for everybody"), "{said}");
        assert_eq!(said.contains("the flag"), readable, "{said}");
        assert_eq!(
            said.contains("flag: Permission denied"),
            !readable,
            "{said}"
        );
        let server = Namespace::new(Config::new(&data));
        let gone = server.sessions().await.unwrap();
        server.sweep(&gone).await.unwrap();
    };
    // The owner of the file may read it, unless that is root.
    check(ask(Command::new(&example), "sesn_own"), !is_root()).await;
    if is_root() {
        fs::remove_dir_all(&data).unwrap();
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::chown(&data, Some(60001), Some(60001)).unwrap();
        let mut ordinary = Command::new("setpriv");
        ordinary
            .args(["--reuid", "60001", "--regid", "60001", "--clear-groups"])
            .arg(&example);
        check(ask(ordinary, "sesn_ordinary"), false).await;
    }
}

/// security SBX-2, I9
#[tokio::test]
async fn sbx_2_without_its_helpers_nothing_is_started() {
    let check = async |host: Host, what: &str, install: &str| {
        let probe = host.provider.probe().await;
        assert!(!probe.usable() && probe.strength == Strength::Namespace);
        assert!(
            probe.missing.iter().any(|missing| missing.what == what),
            "{probe:?}"
        );
        let error = refusal(&host.provider, "sesn_a").await;
        assert!(matches!(&error, Error::Unavailable { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with(what) && error.to_string().contains(install),
            "{error}"
        );
        assert!(error.for_model().contains(install), "{}", error.for_model());
        assert!(!host.folder("sesn_a").exists(), "nothing half-made");
    };
    let no_bwrap = Host::with(|config| config.bwrap = Some("/nowhere/bwrap".into()));
    check(
        no_bwrap,
        "bubblewrap is missing",
        "apt-get install bubblewrap",
    )
    .await;
    let no_sandboxd = Host::with(|config| config.sandboxd = Some("/nowhere/sandboxd".into()));
    check(no_sandboxd, "sandboxd is missing", "cargo build").await;
}

#[tokio::test]
async fn a_session_id_is_one_plain_segment() {
    let host = Host::new();
    for session in [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        ".trash",
        "a\0b",
        &"x".repeat(200),
    ] {
        let error = refusal(&host.provider, session).await;
        assert!(matches!(error, Error::Refused(_)), "{session:?}: {error:?}");
        assert!(host.provider.destroy(session).await.is_err(), "{session:?}");
    }
}
