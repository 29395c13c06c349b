//! Every check of our own suite: a folder a category, in the order of the report,
//! and a file a subject, whose table says which rules it looks at.

mod discovery;
mod extensions;
mod management;
mod pull;
mod push;

use crate::check::Check;

/// Every check that can run beside others, in the order of the report.
pub(crate) fn all() -> Vec<&'static Check> {
    [
        pull::TABLES,
        push::TABLES,
        discovery::TABLES,
        management::TABLES,
        extensions::TABLES,
    ]
    .concat()
    .into_iter()
    .flatten()
    .collect()
}

/// The checks that look at what all other answers have shown.
pub(crate) fn last() -> Vec<&'static Check> {
    extensions::LAST.iter().collect()
}

/// Digests that no registry can know, each malformed in another way.
pub(crate) fn malformed_digests() -> Vec<String> {
    let hex = "0".repeat(64);
    vec![
        "sha256:".to_owned(),
        "sha256:0123".to_owned(),
        format!("sha256:{hex}0"),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha512:{hex}"),
        format!("md5:{}", "0".repeat(32)),
        format!(":{hex}"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::check::Category;

    #[test]
    fn identifiers_are_unique_and_have_a_category() {
        let mut seen = BTreeSet::new();
        for check in all().into_iter().chain(last()) {
            assert!(seen.insert(check.id), "{} stands twice", check.id);
            let prefix = check.id.split('.').next().unwrap();
            assert!(
                Category::ALL
                    .iter()
                    .any(|category| category.prefix() == prefix),
                "{}",
                check.id
            );
            assert!(
                check.id.bytes().all(|byte| byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'.' | b'-')),
                "{} does not fit into a repository's name",
                check.id
            );
        }
    }

    #[test]
    fn the_readme_counts_the_checks() {
        let readme = include_str!("../../README.md");
        for category in Category::ALL {
            let checks = all().into_iter().chain(last());
            let count = checks.filter(|check| check.category() == category).count();
            let row = format!("| `{}.*` | {count} |", category.prefix());
            assert!(readme.contains(&row), "the README has no row `{row}`");
        }
    }

    #[test]
    fn categories_stand_in_the_order_of_the_report() {
        let order: Vec<Category> = all()
            .into_iter()
            .chain(last())
            .map(Check::category)
            .collect();
        assert!(order.is_sorted());
    }
}
