use super::engine::Read;
use super::memory::Effect;
use super::tables::SETTINGS;
use super::write::Tx;
use crate::error::Error;
use crate::model::settings::Settings;

/// The one row of the table.
const KEY: &str = "appliance";

pub fn get(from: &impl Read) -> Result<Settings, Error> {
    Ok(SETTINGS.get(from, &KEY.into())?.unwrap_or_default())
}

pub fn put(tx: &mut Tx, settings: Settings) -> Result<(), Error> {
    tx.put(SETTINGS, &KEY.into(), &settings)?;
    tx.effect(Effect::Settings(settings));
    Ok(())
}
