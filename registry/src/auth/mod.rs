//! Who may do what: keys, grants and tokens. Knows nothing of HTTP.
//!
//! ```text
//! keys_file   what a file of public keys says
//! grant       what somebody may do, of what is asked for
//! gatekeeper  all of it together, as requests ask it
//! ssh_login   whether somebody has the key that he says he has
//! tokens      what somebody may do for some minutes, signed
//! ```

mod gatekeeper;
mod grant;
mod keys_file;
mod ssh_login;
mod tokens;

pub use gatekeeper::{Caller, Gatekeeper, Names, Permit, Sources, SourcesError};
pub use grant::{Grant, Pattern, Role};
pub use keys_file::{Fault, KnownKey, KnownKeys, LineError, parse as parse_keys};
pub use ssh_login::LoginError;
pub use tokens::{Subject, TokenError, Tokens};
