//! Tests of the registry from outside: its store on every backend, its HTTP side over a real
//! connection, its program as a process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access_log;
mod backends;
mod collect;
mod concurrency;
mod copying;
mod counting;
mod crash_order;
mod fault_injection;
mod faults;
mod faulty_proxy;
mod flaky;
mod harness;
mod hooked;
mod http_audit;
mod http_blobs;
mod http_errors;
mod http_limits;
mod http_listings;
mod http_manifests;
mod http_operation;
mod http_uploads;
mod logins;
mod lost_answers;
mod matrix;
mod model;
mod nonces;
mod paging;
mod people;
mod program;
mod program_bucket;
mod program_operation;
mod program_upkeep;
mod refusals;
mod replicas;
mod requests;
mod retention;
mod scrub;
mod simulation;
mod store_contract;
mod tokens;
mod traces;
mod unfinished;
