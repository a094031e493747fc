//! Makes tonic's client and server from a description, which takes no compiler of protocol buffers.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let method = |name: &str, route: &str, message: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(message)
            .output_type(message)
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let echo = Service::builder()
        .package("rivals")
        .name("Echo")
        .method(method("small", "Small", "super::super::SmallMessage"))
        .method(method("bytes", "Bytes", "super::super::BytesMessage"))
        .build();
    Builder::new().compile(&[echo]);
}
