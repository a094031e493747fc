use pipetalk::Server;

fn main() {
    let server = || Server::bind("acme.length").unwrap();
    server().serve(|text, call| text.len()).unwrap();
    // Nothing says that the call is borrowed.
    server().serve(|text: String, call| text.len()).unwrap();
}
