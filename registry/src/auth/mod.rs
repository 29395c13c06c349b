//! Who may do what: keys, users, grants and tokens. Knows nothing of HTTP.
//!
//! ```text
//! keys_file      what a file of public keys says
//! htpasswd_file  what a file of users and passwords says
//!   options      what lines of both may have
//! grant          what somebody may do, of what is asked for
//! gatekeeper     all of it together, as requests ask it
//!   sources      the files, read together
//!   ssh_login    whether somebody has the key that he says he has
//!   nonces       that he says it for the first time
//!   passwords    whether somebody knows his password
//!   entry        who is let in, and what becomes of others
//!   guesses      whether somebody tries out what he does not know
//! tokens         what somebody may do for some minutes, signed
//!   seen         those that were read before
//! ```

mod entry;
mod gatekeeper;
mod grant;
mod guesses;
mod htpasswd_file;
mod keys_file;
mod nonces;
mod options;
mod passwords;
mod seen;
mod sources;
mod ssh_login;
mod tokens;

pub use gatekeeper::{Caller, Gatekeeper, Names, Permit};
pub use grant::{Grant, Pattern, Role};
pub use htpasswd_file::{KnownUser, KnownUsers, parse as parse_users};
pub use keys_file::{KnownKey, KnownKeys, parse as parse_keys};
pub use nonces::UsedNonces;
pub use options::{Fault, LineError};
pub use passwords::Password;
pub use sources::{Sources, SourcesError};
pub use ssh_login::LoginError;
pub use tokens::{Proven, Subject, TokenError, Tokens};

pub(crate) use entry::{Denied, Proof};
pub(crate) use htpasswd_file::TOKEN_USER;
