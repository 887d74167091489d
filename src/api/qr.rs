use qrcode::QrCode;
use qrcode::render::svg;

use crate::error::Error;

/// The text as a QR code, an SVG image.
pub fn svg(text: &str) -> Result<String, Error> {
    let code = QrCode::new(text).map_err(Error::internal)?;
    Ok(code.render::<svg::Color>().min_dimensions(240, 240).build())
}
