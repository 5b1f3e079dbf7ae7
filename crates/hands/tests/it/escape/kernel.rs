//! Ways to the kernel's knobs, and calls that a sandbox has no use for.

use super::Aim::{Host, Surface};
use super::Attempt;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "core_pattern",
        Host,
        "echo '|/workspace/x' > /proc/sys/kernel/core_pattern && win",
    ),
    (
        "other kernel settings",
        Host,
        "for k in kernel/modprobe kernel/hotplug vm/overcommit_memory vm/panic_on_oom kernel/panic fs/suid_dumpable kernel/hostname kernel/unprivileged_bpf_disabled user/max_user_namespaces vm/drop_caches; do [ -e /proc/sys/$k ] || continue; v=$(cat /proc/sys/$k) && echo \"$v\" > /proc/sys/$k && win; done; find /proc/sys -writable -type f 2>/dev/null | while read f; do v=$(cat $f 2>/dev/null) && echo \"$v\" > $f && win $f; done",
    ),
    (
        "sysrq",
        Host,
        "echo h > /proc/sysrq-trigger && win; echo 1 > /proc/sys/kernel/sysrq && win",
    ),
    (
        "binfmt_misc",
        Host,
        "echo ':x:M::x::/workspace/x:' > /proc/sys/fs/binfmt_misc/register && win; mount -t binfmt_misc b /proc/sys/fs/binfmt_misc && win",
    ),
    (
        "a control group's release agent",
        Host,
        "mkdir -p g; mount -t cgroup -o memory c g && win; mount -t cgroup2 c g && win; for f in $(find / -xdev -name release_agent 2>/dev/null); do echo /workspace/x > $f && win; done; echo 1 > /proc/self/cgroup && win",
    ),
    (
        "leaving the control group",
        Host,
        "for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do [ -e $f ] && echo $$ > $f && win; done",
    ),
    (
        "a module",
        Host,
        "insmod x.ko && win; modprobe dummy && win; perl -e 'exit(syscall(175, \"x\", 1, \"\") == 0 || $! == 8 ? 0 : 1)' && win; perl -e 'open(F, \"/bin/sh\"); exit(syscall(313, fileno(F), \"\", 0) == 0 || $! == 8 ? 0 : 1)' && win",
    ),
    (
        "kexec and reboot",
        Host,
        "perl -e 'exit(syscall(246, 0, 0, 0, 0) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(169, 0xfee1dead, 672274793, 0, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "swap, accounting and quotas",
        Host,
        "perl -e 'exit(syscall(167, \"x\", 0) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(163, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "the clock and the host's name",
        Host,
        "date -s '2001-01-01' && win; perl -e 'exit(syscall(170, \"pwned\", 5) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(227, 0, pack(\"q2\", 1, 1)) == 0 ? 0 : 1)' && win",
    ),
    (
        "ports of the machine",
        Host,
        "perl -e 'exit(syscall(172, 3) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(173, 0, 8, 1) == 0 ? 0 : 1)' && win",
    ),
    (
        "the kernel's log",
        Host,
        "dmesg | grep -q . && win; perl -e 'my $b = \" \" x 4096; exit(syscall(103, 3, $b, 4096) > 0 ? 0 : 1)' && win; head -c 1 /dev/kmsg && win; timeout 1 head -c 1 /proc/kmsg && win",
    ),
    (
        "addresses of the kernel",
        Host,
        "awk '$1 !~ /^0+$/ {found = 1} END {exit !found}' /proc/kallsyms && win; cat /proc/timer_list | grep -q . && win; cat /proc/1/stack /proc/self/stack | grep -q . && win",
    ),
    (
        "keyrings",
        Host,
        "perl -e 'exit(syscall(250, 0, -4, 1) > 0 ? 0 : 1)' && win; perl -e 'exit(syscall(248, \"user\", \"k\", \"v\", 1, -4) > 0 ? 0 : 1)' && win; cat /proc/keys | grep -q . && win",
    ),
    (
        "tracing system calls of others",
        Host,
        "perl -e 'exit(syscall(298, pack(\"I2x120\", 1, 128), -1, 0, -1, 0) >= 0 ? 0 : 1)' && win; [ -n \"$(ls -A /sys/kernel/tracing)\" ] && win",
    ),
    (
        "a user space of its own",
        Host,
        "unshare -Ur true && win; unshare -m true && win; unshare -n true && win; unshare -p -f true && win; perl -e 'for (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000) { exit 0 if syscall(272, $_) == 0 } exit 1' && win",
    ),
    (
        "a space by clone",
        Host,
        "perl -e 'for my $f (0x10000000, 0x10020000, 0x50000000) { my $p = syscall(56, $f | 17, 0, 0, 0, 0); if ($p == 0) { syscall(231, 0) } exit 0 if $p > 0 } exit 1' && win",
    ),
    (
        "a space by clone3",
        Surface,
        "perl -e 'my $a = pack(\"Q8\", 0x10000000, 0, 0, 0, 17, 0, 0, 0); my $p = syscall(435, $a, 64); if ($p == 0) { syscall(231, 0) } exit($p > 0 || $! != 38 ? 0 : 1)' && win",
    ),
    (
        "the space of another process",
        Host,
        "for n in mnt pid net user ipc uts cgroup; do perl -e 'open(F, \"/proc/1/ns/$ARGV[0]\") or exit 1; exit(syscall(308, fileno(F), 0) == 0 ? 0 : 1)' $n && win; done; nsenter -t 1 -m true && win",
    ),
    (
        "io_uring",
        Surface,
        "perl -e 'my $p = \"\\0\" x 120; exit(syscall(425, 4, $p) >= 0 || $! != 38 ? 0 : 1)' && win",
    ),
    (
        "bpf",
        Surface,
        "perl -e 'exit(syscall(321, 0, pack(\"I4x112\", 2, 4, 4, 1), 128) >= 0 ? 0 : 1)' && win",
    ),
    (
        "userfaultfd",
        Surface,
        "perl -e 'exit(syscall(323, 1) >= 0 ? 0 : 1)' && win; head -c 0 /dev/userfaultfd && [ -e /dev/userfaultfd ] && win",
    ),
    (
        "ptrace",
        Surface,
        "perl -e 'my $p = fork; if (!$p) { sleep 30 } my $r = syscall(101, 16, $p, 0, 0); kill 9, $p; exit($r == 0 ? 0 : 1)' && win",
    ),
    (
        "calls of the x32 kind",
        Surface,
        "perl -e 'exit(syscall(0x40000000 | 39) > 0 ? 0 : 1)' && win",
    ),
    (
        "families of sockets that nobody needs",
        Surface,
        "perl -MSocket -e 'for my $f (3..9, 11..15, 17..45) { for my $t (1, 2, 3, 5) { if (socket(my $s, $f, $t, 0)) { exit 0 } } } exit 1' && win",
    ),
    (
        "a socket to the hypervisor",
        Surface,
        "perl -MSocket -e 'exit(socket(my $s, 40, SOCK_STREAM, 0) ? 0 : 1)' && win",
    ),
    (
        "kinds of netlink",
        Surface,
        "perl -MSocket -e 'for my $p (2..22) { exit 0 if socket(my $s, 16, SOCK_RAW, $p) } exit 1' && win",
    ),
    (
        "raw packets",
        Host,
        "perl -MSocket -e 'exit(socket(my $s, 17, SOCK_RAW, 768) ? 0 : 1)' && win; perl -MSocket -e 'exit(socket(my $s, AF_INET, SOCK_RAW, 1) ? 0 : 1)' && win",
    ),
    (
        "memory of a secret kind, and of others by place",
        Surface,
        "perl -e 'exit(syscall(279, 1, 0, 0, 0, 0, 0) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(310, 1, 0, 0, 0, 0, 0) >= 0 ? 0 : 1)' && win",
    ),
    (
        "notes about the host's files",
        Surface,
        "perl -e 'exit(syscall(300, 0, 0) >= 0 ? 0 : 1)' && win; perl -e 'exit(syscall(179, 0x80000700, 0, 0, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "more rights",
        Host,
        "perl -e 'exit(syscall(126, pack(\"I2\", 0x20080522, 0), pack(\"I6\", -1, -1, -1, -1, -1, -1)) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(105, 0) == 0 ? 0 : 1)' && win; perl -e 'exit(syscall(106, 0) == 0 ? 0 : 1)' && win; perl -e 'syscall(157, 38, 0, 0, 0, 0); exit(syscall(157, 39, 0, 0, 0, 0) == 1 ? 1 : 0)' && win; perl -e 'exit(syscall(157, 47, 2, 21, 0, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "a better place among processes",
        Host,
        "perl -e 'exit(setpriority(0, 0, -5) ? 0 : 1)' && win; (echo -1000 > /proc/self/oom_score_adj) && win; (echo -1000 > /proc/1/oom_score_adj) && win; perl -e 'exit(syscall(144, 0, 1, pack(\"i\", 50)) == 0 ? 0 : 1)' && win",
    ),
];
