// An app for `wasi:http/proxy` in JavaScript.
//
// GET says hello and the path that was asked for; POST sends the body back; another method gets 405.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const headers = { "content-type": "text/plain" };
  const url = new URL(request.url);
  switch (request.method) {
    case "GET":
      return new Response(`hello from javascript: ${url.pathname}${url.search}\n`, { headers });
    case "POST":
      return new Response(request.body, { headers });
    default:
      return new Response("only GET and POST\n", { status: 405, headers });
  }
}
