//! What the appliance remembers.

pub mod index;
