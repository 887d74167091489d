use serde::{Deserialize, Serialize};

/// What of the settings is kept with the data, beside those of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Names and addresses of the appliance, as a URL writes them; the first is told to people where the configuration
    /// has none.
    pub names: Vec<String>,
}
