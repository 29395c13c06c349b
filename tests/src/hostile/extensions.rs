//! Headers that say something about other entries: PAX records, long names, and what readers make of them
//! together. Where they disagree, something slips past one of them.

use super::{Case, Tar, accepted, refused};

const MIXED: &str = "PAX and GNU headers say what it is, or two of one kind";
const RECORD: &str = "its PAX header cannot be read";

pub(super) fn cases(outside: &str) -> Vec<Case> {
    let mut cases = mixed();
    cases.extend(records());
    cases.extend(smuggled(outside));
    cases
}

fn mixed() -> Vec<Case> {
    vec![
        refused(
            "pax-and-gnu-name",
            [Tar::new()
                .pax(&[("path", "a")])
                .gnu_name("b")
                .file("c", "x")],
            "a",
            MIXED,
        ),
        refused(
            "gnu-and-pax-name",
            [Tar::new()
                .gnu_name("b")
                .pax(&[("path", "a")])
                .file("c", "x")],
            "a",
            MIXED,
        ),
        refused(
            "pax-and-gnu-target",
            [Tar::new()
                .pax(&[("linkpath", "a")])
                .gnu_link("b")
                .symbolic_link("c", "x")],
            "c",
            MIXED,
        ),
        refused(
            "pax-size-before-a-gnu-name",
            [Tar::new()
                .pax(&[("size", "512")])
                .gnu_name("b")
                .file("c", "x")],
            "b",
            MIXED,
        ),
        refused(
            "gnu-name-before-a-pax-size",
            [Tar::new()
                .gnu_name("b")
                .pax(&[("size", "1")])
                .file("c", "x")],
            "b",
            MIXED,
        ),
        refused(
            "pax-time-and-gnu-name",
            [Tar::new()
                .pax(&[("mtime", "1")])
                .gnu_name("b")
                .file("c", "x")],
            "b",
            MIXED,
        ),
        refused(
            "two-pax-headers",
            [Tar::new()
                .pax(&[("path", "a")])
                .pax(&[("path", "b")])
                .file("c", "x")],
            "PaxHeader",
            MIXED,
        ),
        refused(
            "two-gnu-names",
            [Tar::new().gnu_name("a").gnu_name("b").file("c", "x")],
            "././@LongLink",
            MIXED,
        ),
        refused(
            "two-gnu-targets",
            [Tar::new()
                .gnu_link("a")
                .gnu_link("b")
                .symbolic_link("c", "x")],
            "././@LongLink",
            MIXED,
        ),
        accepted(
            "last-of-equal-pax-keys-wins",
            [Tar::new()
                .pax(&[
                    ("path", "../wrong"),
                    ("path", "right"),
                    ("mtime", "1"),
                    ("mtime", "2"),
                ])
                .file("c", "x")],
            &["right=x @2"],
        ),
        accepted(
            "empty-pax-value-takes-back",
            [Tar::new()
                .pax(&[("path", "../wrong"), ("path", "")])
                .file("c", "x")],
            &["c=x"],
        ),
        accepted(
            "long-names-either-way",
            [Tar::new()
                .pax(&[("path", &"p".repeat(150))])
                .file("short", "1")
                .gnu_name("g".repeat(150))
                .file("short", "2")
                .gnu_name("n".repeat(150))
                .gnu_link("t".repeat(150))
                .symbolic_link("short", "x")
                .file("last", "3")],
            &[
                &format!("{}=1", "p".repeat(150)),
                &format!("{}=2", "g".repeat(150)),
                &format!("{}->{}", "n".repeat(150), "t".repeat(150)),
                "last=3",
            ],
        ),
        accepted(
            "pax-name-of-bytes",
            [Tar::new()
                .pax_bytes(&super::pax_records([(&b"path"[..], &b"\xff\xfe"[..])]))
                .file("c", "x")],
            &["\\xff\\xfe=x"],
        ),
    ]
}

fn records() -> Vec<Case> {
    let bytes = |content: &[u8]| [Tar::new().pax_bytes(content).file("c", "x")];
    let mut cases: Vec<_> = [
        ("pax-record-longer-than-its-header", &b"99 path=a\n"[..]),
        ("pax-record-shorter-than-it-is", &b"8 path=a\n"[..]),
        ("pax-record-of-length-nothing", &b"0 path=a\n"[..]),
        ("pax-record-of-length-below-nothing", &b"-1 path=a\n"[..]),
        (
            "pax-record-of-length-beyond-all-numbers",
            &b"18446744073709551616 path=a\n"[..],
        ),
        ("pax-record-without-a-length", &b"path=a\n"[..]),
        ("pax-record-without-a-key", &b"6 =ab\n"[..]),
        ("pax-record-without-a-value", &b"7 path\n"[..]),
        ("pax-record-without-an-end", &b"9 path=ab"[..]),
        ("pax-header-of-zeros", &[0; 512][..]),
    ]
    .map(|(name, content)| refused(name, bytes(content), "PaxHeader", RECORD))
    .into();
    cases.extend([
        refused(
            "pax-header-too-large",
            bytes(&vec![b'x'; (1 << 20) + 1]),
            "PaxHeader",
            "passes the limit of 1048576 bytes of an extension header",
        ),
        refused(
            "gnu-name-too-large",
            [Tar::new().gnu_name(vec![b'x'; 1 << 20]).file("c", "x")],
            "././@LongLink",
            "passes the limit of 1048576 bytes of an extension header",
        ),
        refused(
            "pax-header-that-says-it-is-too-large",
            [Tar::new().entry(b'x', "PaxHeader", "", "", |block| {
                super::tar::base_256(&mut block[124..136], 1 << 50)
            })],
            "PaxHeader",
            "passes the limit of 1048576 bytes of an extension header",
        ),
        refused(
            "pax-global-name",
            [Tar::new().pax_global(&[("path", "a")]).file("c", "x")],
            "PaxGlobal",
            "a global PAX header sets `path`",
        ),
        refused(
            "pax-global-target",
            [Tar::new().pax_global(&[("linkpath", "a")]).file("c", "x")],
            "PaxGlobal",
            "a global PAX header sets `linkpath`",
        ),
        refused(
            "pax-global-size",
            [Tar::new().pax_global(&[("size", "1")]).file("c", "x")],
            "PaxGlobal",
            "a global PAX header sets `size`",
        ),
        refused(
            "pax-global-sparse",
            [Tar::new()
                .pax_global(&[("GNU.sparse.major", "1")])
                .file("c", "x")],
            "PaxGlobal",
            "a global PAX header sets `GNU.sparse.major`",
        ),
        refused(
            "pax-global-that-is-damaged",
            [Tar::new()
                .entry(b'g', "PaxGlobal", "", "99 a=b\n", |_| {})
                .file("c", "x")],
            "PaxGlobal",
            RECORD,
        ),
        accepted(
            "pax-globals-that-say-nothing",
            [Tar::new()
                .pax_global(&[("comment", "0123456789abcdef")])
                .file("c", "x")
                .pax(&[("path", "d")])
                .pax_global(&[("comment", "x")])
                .file("e", "y")],
            &["c=x", "d=y"],
        ),
        accepted(
            "pax-keys-that-nobody-knows",
            [Tar::new()
                .pax(&[
                    ("VENDOR.key", "value"),
                    ("atime", "x"),
                    ("charset", "?"),
                    ("hdrcharset", "BINARY"),
                ])
                .file("c", "x")],
            &["c=x"],
        ),
    ]);
    cases
}

/// Archives within the content of a file, which a reader that takes the other size unpacks.
fn smuggled(outside: &str) -> Vec<Case> {
    let inner = Tar::new()
        .file("../secret", "x")
        .file(format!("{outside}/secret"), "x")
        .end();
    let length = inner.len();
    let shown = inner.escape_ascii().to_string();
    let size =
        |value: u64| move |block: &mut [u8; 512]| super::tar::octal(&mut block[124..136], value);
    vec![
        accepted(
            "archive-inside-a-file",
            [Tar::new().file("a", &inner)],
            &[&format!("a={shown}")],
        ),
        accepted(
            "archive-hidden-by-the-pax-size",
            [Tar::new()
                .pax(&[("size", &length.to_string())])
                .entry(b'0', "a", "", &inner, size(0))
                .file("b", "x")],
            &[&format!("a={shown}"), "b=x"],
        ),
        refused(
            "archive-shown-by-the-pax-size",
            [Tar::new()
                .pax(&[("size", "0")])
                .entry(b'0', "a", "", &inner, |_| {})],
            "../secret",
            "its name has `..` in it",
        ),
        refused(
            "archive-behind-a-link-with-a-size",
            [Tar::new().entry(b'2', "a", "x", &inner, |_| {})],
            "a",
            "it announces content that its type has not",
        ),
    ]
}
