//! Foreign documents, translated into ours.

pub mod openstack {
    //! OpenStack.
    use super::super::part::Part;
    /// Reads `meta_data.json`.
    ///
    /// # Errors
    /// What is malformed.
    pub fn meta_data(bytes: &[u8]) -> Result<Part, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|_| "is not JSON".to_string())?;
        let mut part = Part::default();
        part.document.device.hostname = value.get("hostname").and_then(|h| h.as_str()).map(Into::into);
        let keys: Vec<String> = value
            .get("public_keys")
            .and_then(|k| k.as_object())
            .into_iter()
            .flatten()
            .filter_map(|(_, k)| Some(k.as_str()?.trim().to_string()))
            .collect();
        if !keys.is_empty() {
            part.document.logins.push(rescue_schema::credentials::Login {
                name: "root".into(),
                password_hash: None,
                authorized_keys: keys,
            });
        }
        Ok(part)
    }
}
pub mod cloud_config {
    //! cloud-init.
    use super::super::part::Part;
    /// Reads `user-data`.
    ///
    /// # Errors
    /// What is malformed.
    pub fn user_data(_: &[u8]) -> Result<Part, String> {
        Ok(Part::default())
    }
    /// Reads `meta-data`.
    ///
    /// # Errors
    /// What is malformed.
    pub fn meta_data(_: &[u8]) -> Result<Part, String> {
        Ok(Part::default())
    }
}
pub mod ibm {
    //! IBM.
    use super::super::part::Part;
    /// Reads `vendor_data.json`.
    ///
    /// # Errors
    /// What is malformed.
    pub fn vendor_data(_: &[u8]) -> Result<Part, String> {
        Ok(Part::default())
    }
}
