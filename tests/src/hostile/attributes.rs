//! Extended attributes: those that nobody asked for, those that are never taken, and too much of them.

use super::{Case, Tar, accepted, pax_records, refused};

pub(super) fn cases() -> Vec<Case> {
    // Every right there is, as Linux writes it.
    let capability = [&[1, 0, 0, 2][..], &[0xff; 16]].concat();
    let dangerous = || {
        Tar::new().pax_bytes(&pax_records([
            (&b"SCHILY.xattr.security.capability"[..], &capability[..]),
            (
                b"SCHILY.xattr.security.selinux",
                b"system_u:object_r:shadow_t:s0",
            ),
            (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"SCHILY.xattr.user.overlay.whiteout", b"y"),
            (b"SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0"),
            (b"SCHILY.xattr.user.origin", b"here"),
            (b"LIBARCHIVE.xattr.user.other", b"aGVyZQ=="),
            (b"RHT.security.selinux", b"system_u:object_r:shadow_t:s0"),
            (b"SCHILY.acl.access", b"user::rwx"),
        ]))
    };
    let large = "v".repeat(64 << 10);
    vec![
        accepted(
            "attributes-that-nobody-asked-for",
            [dangerous().file("a", "x"), dangerous().directory("d")],
            &["a=x", "d/"],
        ),
        accepted(
            "attributes-that-are-never-taken",
            [dangerous().file("a", "x"), dangerous().directory("d")],
            &["a=x [user.origin=here]", "d/ [user.origin=here]"],
        )
        .with("xattrs", "user.*,trusted.*"),
        accepted(
            "attributes-that-were-asked-for",
            [Tar::new()
                .pax(&[
                    ("SCHILY.xattr.user.a", "wrong"),
                    ("SCHILY.xattr.user.b", "2"),
                    ("SCHILY.xattr.user.a", "1"),
                    ("SCHILY.xattr.user.c", "3"),
                ])
                .entry(b'0', "read-only", "", "x", |block| {
                    super::tar::octal(&mut block[100..108], 0o444)
                })
                .pax(&[("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.a", "")])
                .file("taken-back", "x")
                .pax(&[("SCHILY.xattr.user.a", "1")])
                .symbolic_link("link", "read-only")
                .pax(&[("SCHILY.xattr.user.a", "other")])
                .hard_link("z", "read-only")
                .pax(&[("SCHILY.xattr.user.a", "1")])
                .file("large", vec![b'x'; 300])
                .pax_global(&[("SCHILY.xattr.user.a", "1")])
                .file("after-a-global-one", "x")],
            &[
                "read-only=x 444 [user.a=1 user.b=2]",
                "taken-back=x",
                "link->read-only",
                "z==read-only",
                &format!("large={} [user.a=1]", "x".repeat(300)),
                "after-a-global-one=x",
            ],
        )
        .with("xattrs", "user.a,user.b"),
        accepted(
            "attributes-of-directories-are-of-the-last-description",
            [
                Tar::new()
                    .pax(&[("SCHILY.xattr.user.a", "1")])
                    .directory("d")
                    .pax(&[("SCHILY.xattr.user.a", "1")])
                    .directory("e")
                    .pax(&[("SCHILY.xattr.user.a", "1")])
                    .directory("f"),
                Tar::new()
                    .pax(&[("SCHILY.xattr.user.b", "2")])
                    .directory("d")
                    .file("e/new", "")
                    .file(".wh.e", "")
                    .file("f/new", ""),
            ],
            &[
                "d/ [user.b=2]",
                "e/ @0",
                "e/new=",
                "f/ [user.a=1]",
                "f/new=",
            ],
        )
        .with("xattrs", "user.*"),
        accepted(
            "too-large-an-attribute-that-nobody-asked-for",
            [Tar::new()
                .pax(&[("SCHILY.xattr.user.a", &large)])
                .file("a", "x")],
            &["a=x"],
        ),
        refused(
            "too-large-an-attribute",
            [Tar::new()
                .pax(&[("SCHILY.xattr.user.a", &large)])
                .file("a", "x")],
            "a",
            "passes the limit of 65536 bytes of extended attributes",
        )
        .with("xattrs", "user.*"),
        refused(
            "nul-in-the-name-of-an-attribute",
            [Tar::new()
                .pax(&[("SCHILY.xattr.user.a\0b", "1")])
                .file("a", "x")],
            "PaxHeader",
            "a NUL byte stands",
        ),
    ]
}
