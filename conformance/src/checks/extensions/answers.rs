//! Rules that hold for every answer: "Error Codes" and "Warnings". These checks run last
//! and look at what all the others were answered.

use crate::check::{Stop, Verdict, checks};
use crate::observed::Rule;
use crate::scope::Scope;

checks! {
    "Error Codes" {
        Must V1_1_1 "extensions.answer.envelope" envelope:
            "every 4xx with a JSON body had the form of errors";
        Must V1_1_1 "extensions.answer.code" code:
            "every error had a code of the list";
        May V1_1_1 "extensions.answer.json" json:
            "every 4xx had a JSON body";
        Should V1_1_1 "extensions.answer.access" access:
            "every 401, 403 and 429 had the code of its kind, every 401 a challenge";
        Should Main "extensions.answer.retry-after" retry_after:
            "every 429 had `Retry-After`";
        Must Practice "extensions.answer.no-server-error" no_server_error:
            "no request was answered with 5xx";
    }
    "Warnings" {
        Must V1_1_1 "extensions.answer.warnings" warnings:
            "every `Warning` was `299 - \"…\"` without a date, and 4096 bytes at most";
    }
}

/// So many breaches are quoted.
const QUOTED: usize = 5;

fn kept(scope: &Scope, rule: Rule, expected: &str) -> Verdict {
    let breaches = scope.registry.observed().breaches(rule);
    if breaches.is_empty() {
        return Ok(());
    }
    let quoted: Vec<String> = breaches
        .iter()
        .take(QUOTED)
        .map(|breach| format!("{} for {}", breach.got, breach.request))
        .collect();
    let got = format!("{} that did not, as {}", breaches.len(), quoted.join("; "));
    Err(Stop::fail("every request of this run", expected, got))
}

async fn envelope(scope: Scope) -> Verdict {
    kept(
        &scope,
        Rule::Envelope,
        "`{\"errors\": [{\"code\": …}]}` in every JSON 4xx",
    )
}

async fn code(scope: Scope) -> Verdict {
    kept(&scope, Rule::Code, "one of the 14 codes in every error")
}

async fn json(scope: Scope) -> Verdict {
    kept(&scope, Rule::JsonErrors, "a JSON body in every 4xx")
}

async fn access(scope: Scope) -> Verdict {
    kept(
        &scope,
        Rule::Access,
        "`UNAUTHORIZED`, `DENIED` or `TOOMANYREQUESTS`",
    )
}

async fn retry_after(scope: Scope) -> Verdict {
    kept(&scope, Rule::RetryAfter, "`Retry-After` in every 429")
}

async fn no_server_error(scope: Scope) -> Verdict {
    kept(&scope, Rule::NoServerError, "no 5xx")
}

async fn warnings(scope: Scope) -> Verdict {
    kept(&scope, Rule::Warning, "warnings of the specified form")
}
