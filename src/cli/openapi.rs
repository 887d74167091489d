//! `zero openapi`

use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::app;

/// Print the API's description (OpenAPI)
///
/// Prints the OpenAPI document of the API that this binary serves, as JSON. It is made from the same declarations as the
/// API itself and is what a running appliance answers too. Nothing is started and no data is read.
#[derive(Args)]
#[command(after_long_help = "Example:\n  zero openapi > openapi.json")]
pub(super) struct Openapi {}

impl Openapi {
    pub fn run(&self) -> ExitCode {
        print(&format!("{:#}\n", app::openapi()))
    }
}
