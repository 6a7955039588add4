const response = await fetch("{url}/api/v1/messages", {
  method: "POST",
  headers: {
    authorization: `Bearer ${process.env.XPUSH_KEY}`,
    "content-type": "application/json",
    "idempotency-key": crypto.randomUUID(), // the same again for a retry
  },
  body: JSON.stringify({ channel: "{channel}", data: { text: "Hello from Node" } }),
});
console.log(response.status, await response.json());
