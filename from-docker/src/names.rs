//! What an imported image is called here: the configuration, and the components of its layers.
//! Called by `import`.

use deploy_spec::{ComponentName, ConfigurationName, Digest, LayerReference};

use crate::ImportError;

/// Returns the configuration's name for an image that is called so elsewhere, as the original
/// made it: `:` and `/` become `.`.
///
/// # Errors
/// [`ImportError::Name`] where that does not fit the grammar, or the image has no name.
pub fn configuration(image: Option<&str>) -> Result<ConfigurationName, ImportError> {
    let Some(image) = image else {
        return Err(ImportError::NoName);
    };
    let name = image.replace([':', '/', '@'], ".");
    name.parse().map_err(|source| ImportError::Name {
        image: image.to_owned(),
        source,
    })
}

/// Returns the component version of a layer: `<prefix>.l<i>`, counted from 1, and the hash of the
/// layer as stored.
///
/// # Errors
/// [`ImportError::ComponentName`] where that does not fit the grammar.
pub fn layer(
    prefix: &str,
    position: usize,
    digest: &Digest,
) -> Result<LayerReference, ImportError> {
    Ok(LayerReference {
        component: component(&format!("{prefix}.l{position}"))?,
        version: version(digest),
    })
}

/// Returns the component version of the only layer of an image whose layers became one:
/// `<prefix>.flat`, and the layer's hash.
///
/// # Errors
/// As [`layer`].
pub fn flattened(prefix: &str, digest: &Digest) -> Result<LayerReference, ImportError> {
    Ok(LayerReference {
        component: component(&format!("{prefix}.flat"))?,
        version: version(digest),
    })
}

fn component(name: &str) -> Result<ComponentName, ImportError> {
    name.parse()
        .map_err(|source| ImportError::ComponentName { source })
}

fn version(digest: &Digest) -> deploy_spec::Version {
    let hexadecimal = digest.hex();
    (hexadecimal.parse()).expect("hexadecimal digits fit, those of the longest digest too")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_original_made() {
        let table = [
            ("debian:12", "debian.12"),
            ("localhost/app:v1.2-rc1", "localhost.app.v1.2-rc1"),
            (
                "registry.example:5000/a/b:latest",
                "registry.example.5000.a.b.latest",
            ),
        ];
        for (image, expected) in table {
            assert_eq!(configuration(Some(image)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn names_that_do_not_fit_say_how_to_choose_one() {
        for image in ["app:V1", "app:1..0", &"a".repeat(200)] {
            let error = configuration(Some(image)).unwrap_err().to_string();
            assert!(error.contains("\nhint: choose one with -name"), "{error}");
        }
        let error = configuration(None).unwrap_err().to_string();
        assert!(error.contains("-name"), "{error}");
        let digest = Digest::sha256(b"");
        let error = layer("App", 1, &digest).unwrap_err().to_string();
        assert!(error.contains("--component-prefix"), "{error}");
    }

    #[test]
    fn layers_are_counted_from_one_and_versioned_by_their_hash() {
        let digest = Digest::sha256(b"");
        let reference = layer("debian.12", 3, &digest).unwrap();
        assert_eq!(
            reference.to_string(),
            format!("debian.12.l3:{}", digest.hex())
        );
        let longest = Digest::of(deploy_spec::Algorithm::Sha512, b"");
        assert_eq!(layer("a", 1, &longest).unwrap().version.as_str().len(), 128);
    }
}
