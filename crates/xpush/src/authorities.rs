//! Whom to trust.

use std::path::Path;

/// The certificates to trust, as PEM: those of a file, or the machine's.
pub(crate) fn read(file: Option<&Path>) -> Result<String, String> {
    let usual =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let usual = usual.iter().map(Path::new).find(|path| path.exists());
    let file =
        file.or(usual).ok_or("there are no certificate authorities on this machine: name them by `ca`")?;
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}
