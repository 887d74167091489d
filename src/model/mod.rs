//! Plain records of what the appliance manages. A resource has the same name in every layer.

pub mod device;
