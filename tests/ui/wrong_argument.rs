use pipetalk::Blob;

pipetalk::service! {
    pub trait Kv {
        fn get(key: String) -> Option<Blob>;
    }
    pub struct KvClient;
}

fn main() {
    let client = KvClient::connect("acme.kv").unwrap();
    client.get(1).unwrap();
}
