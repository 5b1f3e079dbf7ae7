//! Ways to processes, sockets and terminals that are not the sandbox's own, and to what watches over it.

use super::Aim::{Flag, Host, Surface};
use super::Attempt;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "signals to the host's processes",
        Host,
        "kill -9 {PID} && win; kill -0 {PID} && win; for p in $(seq 1 400); do [ $p -gt 1 ] && kill -0 $p 2>/dev/null && grep -q flag- /proc/$p/environ && win; done",
    ),
    (
        "a handle on a process of the host",
        Host,
        "perl -e 'exit(syscall(434, $ARGV[0], 0) >= 0 ? 0 : 1)' {PID} && win",
    ),
    (
        "descriptors of another process",
        Host,
        "perl -e 'my $p = syscall(434, 1, 0); exit 1 if $p < 0; for (0..64) { exit 0 if syscall(438, $p, $_, 0) >= 0 } exit 1' && win",
    ),
    (
        "tracing the supervisor",
        Host,
        "perl -e 'exit(syscall(101, 16, 1, 0, 0) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(101, 0x4206, 1, 0, 0) == 0 ? 0 : 1)' && win; gdb -p 1 -batch && win",
    ),
    (
        "writing the supervisor's memory",
        Host,
        "perl -e 'open(F, \"+<\", \"/proc/1/mem\") or exit 1; exit 0' && win; perl -e 'exit(syscall(311, 1, 0, 0, 0, 0, 0) >= 0 ? 0 : 1)' && win",
    ),
    (
        "ending the supervisor",
        Surface,
        "kill -9 1; kill -STOP 1; kill -TERM 1; kill -SEGV 1; sleep 0.1; echo alive",
    ),
    (
        "the supervisor's library path",
        Host,
        "export LD_PRELOAD=/workspace/evil.so LD_LIBRARY_PATH=/workspace LD_AUDIT=/workspace/evil.so; echo x > ~/.bashrc; echo x > /etc/ld.so.preload && win; grep -q evil /proc/1/environ /proc/1/maps && win",
    ),
    (
        "limits of a process of the host",
        Host,
        "prlimit --pid {PID} --nofile=1 && win; perl -e 'exit(syscall(302, $ARGV[0], 7, pack(\"Q2\", 1, 1), 0) == 0 ? 0 : 1)' {PID} && win",
    ),
    (
        "the control channel",
        Host,
        "perl -MSocket -e 'for my $f (glob(\"/run/manyhands/* /run/manyhands/*/* /tmp/* /workspace/*\")) { next unless -S $f; next if $f =~ m(/door/); socket(my $s, AF_UNIX, SOCK_STREAM, 0); exit 0 if connect($s, sockaddr_un($f)) } exit 1' && win",
    ),
    (
        "an abstract socket of the host",
        Flag,
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack(\"Sa*\", 1, \"\\0$ARGV[0]\")) or exit 1; print <$s>' {ABSTRACT}; cat /proc/net/unix | grep -q {ABSTRACT} && win",
    ),
    (
        "a socket in a folder of the host",
        Flag,
        "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, sockaddr_un($ARGV[0])) or exit 1; print <$s>' {DIR}/door",
    ),
    (
        "a port of the host",
        Flag,
        "for a in 127.0.0.1 localhost 0.0.0.0 ::1 10.0.2.2 172.17.0.1 host.docker.internal host.containers.internal; do (timeout 2 cat < /dev/tcp/$a/{PORT}) 2>/dev/null; done",
    ),
    (
        "a port of the host, with headers",
        Flag,
        "curl -s --noproxy '*' -m 2 http://127.0.0.1:{PORT}/; curl -s -m 2 http://127.0.0.1:{PORT}/; curl -s -m 2 http://localhost:{PORT}/; curl -s -m 2 http://[::ffff:127.0.0.1]:{PORT}/",
    ),
    (
        "the host's interfaces",
        Host,
        "[ \"$(ls /sys/class/net 2>/dev/null | grep -vc '^lo$')\" -gt 0 ] && win; grep -vE 'Inter|face|lo:' /proc/net/dev | grep -q . && win; grep -qE '^[a-z0-9]+\\s+00000000' /proc/net/route && win",
    ),
    (
        "sending packets out",
        Host,
        "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 0); exit(send($s, \"x\", 0, sockaddr_in(53, inet_aton(\"1.1.1.1\"))) ? 0 : 1)' && win",
    ),
    (
        "a terminal of the host",
        Host,
        "for t in /dev/tty /dev/tty0 /dev/tty1 /dev/console /dev/pts/0 /dev/pts/1; do perl -e 'open(F, \"+<\", $ARGV[0]) or exit 1; exit(ioctl(F, 0x5412, \"x\") ? 0 : 1)' $t && win; done",
    ),
    (
        "typing into a terminal of its own",
        Surface,
        "perl -e 'open(F, \"+<\", \"/dev/ptmx\") or exit 1; exit(ioctl(F, 0x5412, \"x\") ? 0 : 1)' && win; perl -e 'open(F, \"+<\", \"/dev/ptmx\") or exit 1; exit(ioctl(F, 0x541C, \"\\x0b\") ? 0 : 1)' && win",
    ),
    (
        "a program from memory",
        Host,
        "perl -e 'my $n = \"m\"; my $fd = syscall(319, $n, 0); exit 1 if $fd < 0; open(my $m, \">&=\", $fd); open(my $i, \"/bin/cat\"); binmode $i; local $/; syswrite($m, <$i>); exec(\"/proc/self/fd/$fd\", \"{DIR}/flag\")'",
    ),
    (
        "a fork bomb",
        Host,
        "(ulimit -u 200; f() { f | f & }; f) >/dev/null 2>&1; for i in {1..20000}; do :; done; kill -9 -1; echo over",
    ),
    (
        "all of the memory",
        Host,
        "timeout 5 perl -e 'my @a; push @a, \"x\" x (1 << 26) for 1..1000' ; echo over",
    ),
    (
        "all of the disk",
        Host,
        "timeout 5 head -c 300000000 /dev/zero > big; timeout 5 head -c 300000000 /dev/zero > /tmp/big; rm -f big /tmp/big; echo over",
    ),
    (
        "all of the descriptors",
        Host,
        "perl -e 'my @f; while (open(my $f, \"/dev/null\")) { push @f, $f } print scalar(@f) > 100000 ? \"w\" : \"ok\"' | grep -q w && win",
    ),
    (
        "waiting for the next call",
        Flag,
        "(trap '' HUP TERM; sleep 0.3; cat {DIR}/flag > /mnt/session/outputs/late) </dev/null >/dev/null 2>&1 & disown; sleep 0.5; cat /mnt/session/outputs/late",
    ),
    (
        "words of the control channel in the output",
        Host,
        "printf '\\x00\\x00\\x00\\x20{\"result\":{\"id\":1}}'; printf '\\x1b]52;c;eA==\\x07'; echo '{\"type\":\"session.status_idle\"}'",
    ),
    (
        "a core of the supervisor",
        Flag,
        "ulimit -c unlimited; ulimit -c | grep -q unlimited && win; kill -ABRT 1; sh -c 'kill -SEGV $$'; ls core* && win",
    ),
    (
        "the space of a sibling",
        Host,
        "ls -la /proc/1/ns /proc/self/ns; for n in {SPACES}; do readlink /proc/self/ns/* | grep -qF \"$n\" && win $n; done",
    ),
];
