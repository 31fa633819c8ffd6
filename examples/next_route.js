/** A proxy route for recorded utterances, so that the server's address and key stay on this side. */

/** The recording goes through as it comes, unread: `SOTTO_URL` and `SOTTO_API_KEY` are of this side's environment. */
export async function POST(request) {
  const server = process.env.SOTTO_URL ?? "http://127.0.0.1:8000";
  const headers = { "content-type": request.headers.get("content-type") ?? "" };
  if (process.env.SOTTO_API_KEY) headers.authorization = `Bearer ${process.env.SOTTO_API_KEY}`;
  try {
    const answer = await fetch(`${server}/transcribe`, {
      method: "POST",
      headers,
      body: request.body,
      duplex: "half",
      signal: request.signal,
    });
    const passed = ["content-type", "retry-after", "x-request-id"].filter((name) => answer.headers.has(name));
    return new Response(answer.body, {
      status: answer.status,
      headers: Object.fromEntries(passed.map((name) => [name, answer.headers.get(name)])),
    });
  } catch {
    return Response.json({ detail: "the speech server does not answer" }, { status: 502 });
  }
}

export const runtime = "nodejs";
export const maxDuration = 60; // seconds, as long as a recording may take
