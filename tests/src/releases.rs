//! Releases that can tell whether they are complete. Called by the scenarios.

use crate::desk::Desk;

/// Checks both trees that a script is given against the sums that they hold, and writes down what it saw.
pub const CHECK: &str = r#"check() { (cd "$1" && sha256sum --quiet -c SUMS && [ "$(cat release)" = "$(cat release-too)" ]); }
if check "$NEWROOT" && { [ -z "$OLDROOT" ] || check "$OLDROOT"; }; then echo whole >>"$HOME/seen"
else echo "HALF NEW=$NEWROOT OLD=$OLDROOT" >>"$HOME/seen"; fi"#;

/// Pushes version `number` of two components, which together make a tree that can tell whether it is complete, with
/// these empty files in it. The configuration is `project`.
///
/// # Panics
/// When that fails.
pub fn push_release(desk: &Desk, number: usize, files: &[&str]) {
    let version = format!("v{number}");
    let (one, two) = (format!("src/{version}/one"), format!("src/{version}/two"));
    for file in 0..12 {
        desk.write(
            &format!("{one}/data/{file}"),
            format!("{version}-{file} ").repeat(3000),
        );
    }
    desk.write(&format!("{one}/release"), &version);
    desk.write(&format!("{two}/release-too"), &version);
    for file in files {
        desk.write(&format!("{two}/{file}"), "");
    }
    let sums = "find . -type f | sort | xargs sha256sum";
    let both = format!(
        "cp -r {one} all-{version} && cp -r {two}/. all-{version} && cd all-{version} && {sums}"
    );
    let sums = desk.run("/bin/sh").args(["-c", &both]).ok().stdout;
    desk.write(&format!("{two}/SUMS"), sums);
    desk.deployctl(["push", &format!("one:{version}"), &one])
        .ok();
    desk.deployctl(["push", &format!("two:{version}"), &two])
        .ok();
    desk.compose(
        "project",
        &[&format!("one:{version}"), &format!("two:{version}")],
    );
}

/// Asserts that [`CHECK`] never met a tree that was not whole.
///
/// # Panics
/// When it did.
#[track_caller]
pub fn assert_only_whole_trees(desk: &Desk) {
    let seen = std::fs::read_to_string(desk.path("seen")).unwrap_or_default();
    assert!(!seen.contains("HALF"), "{seen}");
}

/// Asserts that the host `host` is on the version and was never on half a tree.
///
/// # Panics
/// When that is not so.
#[track_caller]
pub fn assert_on_release(desk: &Desk, version: &str) {
    assert_eq!(desk.read("host/current/release"), version);
    assert_eq!(desk.read("host/current/release-too"), version);
    assert_only_whole_trees(desk);
}
