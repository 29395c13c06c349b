//! What a check is, where its rule comes from, and what it may answer.
//! The tables under `checks` are made of these; the runner calls them.

use futures::future::BoxFuture;

use crate::scope::Scope;

/// The part of the specification that a check belongs to, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Category {
    Pull,
    Push,
    Discovery,
    Management,
    Extensions,
}

impl Category {
    /// Every category, in the order of the report.
    pub(crate) const ALL: [Self; 5] = [
        Self::Pull,
        Self::Push,
        Self::Discovery,
        Self::Management,
        Self::Extensions,
    ];

    /// The first segment of the identifiers of its checks.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Discovery => "discovery",
            Self::Management => "management",
            Self::Extensions => "extensions",
        }
    }

    /// The heading under which the report prints it.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Discovery => "content discovery",
            Self::Management => "content management",
            Self::Extensions => "extensions and every answer",
        }
    }
}

/// How strong the rule is, in the words of RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Broken is a failure.
    Must,
    /// Not followed is a skip that says so.
    Should,
    /// Not offered is a skip that says so.
    May,
}

impl Level {
    /// The word as reports print it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

/// The text that a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// distribution-spec, tag v1.1.1.
    V1_1_1,
    /// distribution-spec, branch main at 967efdc ("1.1+dev").
    Main,
    /// HTTP itself, which the specification refers to (RFC 9110, 7240, 8288).
    Http,
    /// No specification: what the clients in the field rely upon.
    Practice,
}

impl Source {
    /// The word as reports print it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1_1_1 => "1.1.1",
            Self::Main => "main",
            Self::Http => "http",
            Self::Practice => "practice",
        }
    }
}

/// One rule and the function that looks whether a registry keeps it.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// `category.subject.detail`, unique; what `--only` matches.
    pub(crate) id: &'static str,
    /// How strong the rule is.
    pub(crate) level: Level,
    /// The text that the rule stands in.
    pub(crate) source: Source,
    /// The heading of that text.
    pub(crate) section: &'static str,
    /// The rule as a sentence.
    pub(crate) title: &'static str,
    /// Asks the registry.
    pub(crate) run: fn(Scope) -> BoxFuture<'static, Verdict>,
}

impl Check {
    /// The category that the identifier names; a test holds every table to a known one.
    pub(crate) fn category(&self) -> Category {
        let prefix = self.id.split('.').next().unwrap_or_default();
        Category::ALL
            .into_iter()
            .find(|category| category.prefix() == prefix)
            .unwrap_or(Category::Extensions)
    }
}

/// Makes the table `CHECKS` of a file: sections of the specification, and in each a row a
/// rule: level, source, identifier, function, and the rule as a sentence.
macro_rules! checks {
    ($($section:literal {
        $($level:ident $source:ident $id:literal $run:ident: $title:literal;)*
    })*) => {
        /// The rules that this file looks at, in the order of the report.
        pub(super) const CHECKS: &[$crate::check::Check] = &[$($(
            $crate::check::Check {
                id: $id,
                level: $crate::check::Level::$level,
                source: $crate::check::Source::$source,
                section: $section,
                title: $title,
                run: |scope| Box::pin($run(scope)),
            },
        )*)*];
    };
}
pub(crate) use checks;

/// `Ok` is a pass; everything else ends a check early.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// Why a check did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An optional feature is not there, or the rule cannot be looked at here.
    Skip(String),
    /// The registry answered something else than the rule says.
    Fail(Box<Failure>),
}

/// What was asked, what the rule wants, and what came.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Failure {
    /// Method, address and the headers that matter.
    pub(crate) request: String,
    /// What the rule wants.
    pub(crate) expected: String,
    /// What the registry answered.
    pub(crate) got: String,
    /// True where no level excuses it: no answer, a 5xx, or a preparation that failed.
    #[serde(skip)]
    pub(crate) severe: bool,
}

impl Stop {
    /// A skip with its reason.
    pub(crate) fn skip(reason: impl Into<String>) -> Self {
        Self::Skip(reason.into())
    }

    /// A failure that is not tied to one answer.
    pub(crate) fn fail(
        request: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Fail(Box::new(Failure {
            request: request.into(),
            expected: expected.into(),
            got: got.into(),
            severe: false,
        }))
    }

    /// Marks a failure of a check's preparation, which no level excuses.
    pub(crate) fn while_preparing(self, what: &str) -> Self {
        match self {
            Self::Skip(reason) => Self::Skip(reason),
            Self::Fail(mut failure) => {
                failure.expected = format!("{} (while preparing: {what})", failure.expected);
                failure.severe = true;
                Self::Fail(failure)
            }
        }
    }
}
