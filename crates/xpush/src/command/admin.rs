//! `xpush admin`: who may operate the installation.

use clap::{Args, Subcommand};
use xpush_core::Role;
use xpush_core::ports::directory::UserRecord;
use xpush_session::setup::ADMIN;

use super::{Installation, Told, user};
use crate::cli::Site;

const EXAMPLES: &str = "\
Examples:
  xpush admin create root                      asks for a password
  pass show xpush | xpush admin create root    or reads it from stdin
  xpush user list --app xpush                  who they are; `xpush user` changes and deletes them, too

Operators are users of the app `xpush` with the role `admin`.";

/// Who may operate the installation.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Admins {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    site: Site,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an operator.
    Create { name: String },
}

/// Runs the command.
pub(crate) fn run(admins: &Admins) -> Told {
    let What::Create { name } = &admins.what;
    let installation = Installation::open_or_make(&admins.site)?;
    let admin = Role::new(ADMIN).map_err(|code| code.text().to_owned())?;
    let account = UserRecord { roles: vec![admin], ..UserRecord::default() };
    user::create(&installation, &user::operators()?, name, account, true)?;
    Ok(format!("{name} may operate this installation\n"))
}
