//! Ways to a file of the host, or of another session.

use super::Aim::{Flag, Host};
use super::Attempt;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "a plain path",
        Flag,
        "cat {DIR}/flag {DATA}/flag {HOME} {SHM}",
    ),
    (
        "a path of many dots",
        Flag,
        "cat ../../../../../../../../..{DIR}/flag",
    ),
    (
        "another session's folder",
        Flag,
        "find / -xdev -path '*{OTHER}*' -type f -exec cat {} + ; cat {DATA}/sandboxes/{OTHER}/workspace/flag {DATA}/sandboxes/{OTHER}/writable/workspace/flag",
    ),
    (
        "anything of that name anywhere",
        Flag,
        "find / -xdev -name '*flag*' -type f -size -2 -exec cat {} + | head -c 50000",
    ),
    (
        "a symbolic link",
        Flag,
        "ln -s {DIR}/flag link && cat link; ln -s / root && cat root{DIR}/flag",
    ),
    (
        "a hard link",
        Flag,
        "ln {DIR}/flag hard; ln -L /proc/1/root{DIR}/flag hard; cat hard",
    ),
    (
        "a link read by the server's tools",
        Flag,
        "mkdir -p /mnt/session/outputs/sub; ln -s {DIR}/flag /mnt/session/outputs/out; ln -s {DIR} /mnt/session/outputs/sub/dir; cat /mnt/session/outputs/out /mnt/session/outputs/sub/dir/flag",
    ),
    (
        "a link where the next start mounts",
        Flag,
        "for f in /workspace /tmp ~ /mnt/session/outputs; do ln -s /oldroot{DIR} $f/x; ln -s /newroot{DIR} $f/y; done; cat /workspace/x/flag /tmp/x/flag ~/x/flag /oldroot{DIR}/flag",
    ),
    (
        "the roots of other processes",
        Flag,
        "for p in /proc/[0-9]*; do cat $p/root{DIR}/flag; done",
    ),
    (
        "the working folders of other processes",
        Flag,
        "for p in /proc/[0-9]*; do cat $p/cwd/flag $p/cwd/../../../..{DIR}/flag; done",
    ),
    (
        "process 1's root and folder",
        Flag,
        "cat /proc/1/root{DIR}/flag /proc/1/cwd/{DIR}/flag; ls -la /proc/1/root/oldroot",
    ),
    (
        "inherited descriptors",
        Flag,
        "for f in /proc/[0-9]*/fd/*; do [ -d $f/. ] && cat $f/flag $f{DIR}/flag $f/../../../../../../..{DIR}/flag; done; for n in $(seq 3 255); do cat /dev/fd/$n/flag <&-; done",
    ),
    (
        "descriptors of process 1",
        Flag,
        "for f in /proc/1/fd/* /proc/1/task/1/fd/*; do timeout 1 cat $f </dev/null; done",
    ),
    (
        "map_files",
        Flag,
        "cat /proc/1/map_files/* /proc/self/map_files/* | head -c 1000000 | grep -a 'flag-'",
    ),
    (
        "other processes' environments",
        Flag,
        "cat /proc/*/environ /proc/*/task/*/environ | tr '\\0' '\\n'",
    ),
    (
        "other processes' command lines",
        Flag,
        "cat /proc/*/cmdline | tr '\\0' ' '; ps axeww",
    ),
    (
        "the memory of process 1",
        Flag,
        "dd if=/proc/1/mem bs=4096 count=1 skip=1 && win; cat /proc/1/mem | grep -a 'flag-'",
    ),
    (
        "the kernel's memory",
        Flag,
        "head -c 4096 /proc/kcore | grep -q ELF && win; head -c 4096 /dev/mem && win; head -c 4096 /dev/kmem && win; head -c 4096 /dev/port && win",
    ),
    (
        "a disk of the host",
        Flag,
        "for d in /dev/vda* /dev/sda* /dev/nvme* /dev/loop* /dev/dm-* /dev/mapper/*; do head -c 4096 $d >/dev/null && win; done",
    ),
    (
        "a device made here",
        Flag,
        "for n in '254 0' '8 0' '7 0' '1 1' '1 2' '10 237'; do for f in . /tmp ~ /dev /dev/shm; do rm -f $f/d; mknod $f/d b $n && head -c 512 $f/d >/dev/null && win; rm -f $f/d; mknod $f/d c $n && head -c 512 $f/d >/dev/null && win; done; done",
    ),
    (
        "loop-control",
        Host,
        "perl -e 'open(F, \"+<\", \"/dev/loop-control\") or exit 1; exit(ioctl(F, 0x4C82, 0) ? 0 : 1)' && win",
    ),
    (
        "a mount",
        Flag,
        "mkdir -p m; mount --bind / m && win; mount -t proc proc m && win; mount -t tmpfs t m && win; mount -o remount,rw / && win; mount -t ext4 /dev/vda m && win; cat m{DIR}/flag",
    ),
    (
        "a mount by its number",
        Host,
        "mkdir -p m; perl -e 'exit(syscall(165, \"none\", \"m\", \"tmpfs\", 0, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "the newer mount calls",
        Host,
        "perl -e 'my $ok = 1; $ok = 0 if syscall(430, \"tmpfs\", 0) >= 0; $ok = 0 if syscall(428, -100, \"/\", 1) >= 0; $ok = 0 if syscall(433, -100, \"/\", 0) >= 0; exit $ok' && win",
    ),
    (
        "changing the attributes of a mount",
        Host,
        "perl -e 'my $attr = pack(\"Q4\", 0, 1, 0, 0); exit(syscall(442, -100, \"/\", 0x8000, $attr, 32) == 0 ? 0 : 1)' && win",
    ),
    (
        "taking a mount away",
        Flag,
        "umount -l /etc && win; umount -l /proc && win; umount -l /usr && win; umount -l / && win; perl -e 'exit(syscall(166, \"/etc\", 2) == 0 ? 0 : 1)' && win",
    ),
    (
        "pivot_root and chroot",
        Flag,
        "mkdir -p p/o; pivot_root p p/o && win; perl -e 'exit(syscall(155, \"p\", \"p/o\") == 0 ? 0 : 1)' && win; chroot / true && win; chroot /proc/1/root cat {DIR}/flag",
    ),
    (
        "the classic way out of a chroot",
        Flag,
        "perl -e 'mkdir \"j\"; chroot(\"j\") or exit 1; chdir(\"..\") for 1..64; chroot(\".\"); print 1' && win",
    ),
    (
        "a file by its handle",
        Flag,
        "perl -e 'my $h = pack(\"I2a128\", 128, 0, \"\"); my $m = pack(\"i\", 0); my $fd = syscall(303, -100, \"/workspace\", $h, $m, 0); exit 1 if $fd < 0; my $root = pack(\"I2Q\", 8, 1, 2); open(D, \"/workspace\"); exit(syscall(304, fileno(D), $root, 0) >= 0 ? 0 : 1)' && win; perl -e 'my $root = pack(\"I2Q\", 8, 1, 2); open(D, \"/workspace\"); exit(syscall(304, fileno(D), $root, 0) >= 0 ? 0 : 1)' && win",
    ),
    (
        "writing to the system's folders",
        Host,
        "for f in /usr/bin /etc /bin /lib /sbin /run/manyhands /; do touch $f/planted && win; done; echo x >> /etc/passwd && win; echo x >> /usr/bin/env && win",
    ),
    (
        "replacing the supervisor",
        Host,
        "for f in /run/manyhands/sandboxd /usr/libexec/manyhands/sandboxd /proc/1/exe; do [ -e $f ] || [ -L $f ] || continue; rm -f $f 2>/dev/null && win; (echo x >> $f) 2>/dev/null && win; done; perl -e 'open(F, \"+<\", \"/proc/1/exe\") or exit 1; exit 0' && win; perl -e 'open(F, \"+<\", \"/proc/self/exe\") or exit 1; exit 0' && win",
    ),
    (
        "files with the rights of root",
        Host,
        "cp /bin/bash s && chmod 4755 s && chown 0:0 s && win; su -c true </dev/null && win; sudo -n true && win; [ \"$(./s -p -c 'id -u')\" = 0 ] && win",
    ),
    (
        "file capabilities",
        Host,
        "cp /bin/bash c; setcap cap_sys_admin+ep c && win; perl -e 'my $v = pack(\"I5\", 0x02000001, 0x200000, 0, 0, 0); exit(syscall(188, \"c\", \"security.capability\", $v, 20, 0) == 0 ? 0 : 1)' && win",
    ),
    (
        "names with odd characters",
        Flag,
        "touch $'a\\nb' $'..\\n' '-rf' $'\\x1b[2J'; ln -s {DIR}/flag $'l\\ni'; cat $'l\\ni'; mkdir $'..\\\\'; cat $'..\\\\'{DIR}/flag",
    ),
    (
        "a path that is too long",
        Flag,
        "d=$(printf 'd%.0s' $(seq 200)); for i in $(seq 30); do mkdir -p $d 2>/dev/null && cd $d || break; done; ln -s {DIR}/flag l; cat l ../../../../../../../../../../../../../../../../../../../../../../../../../../../../../../../..{DIR}/flag",
    ),
    (
        "shared memory of the host",
        Flag,
        "cat {SHM} /dev/shm/*; ipcs -a | grep -c 0x; ls /dev/mqueue && cat /dev/mqueue/*",
    ),
    (
        "exports of the host's kernel",
        Host,
        "find /sys -xdev -writable 2>/dev/null | grep -q . && win; cat /sys/kernel/debug/* && win; ls /sys/firmware/* && win; cat /sys/kernel/security/* && win",
    ),
    (
        "the host's mounts",
        Host,
        "[ -e {DATA} ] && win; [ -e {DIR} ] && win; for m in $(cut -d' ' -f5 /proc/self/mountinfo); do cat $m{DIR}/flag; done",
    ),
];
