// Sends the form with the token of the link, which stands behind its `#`: no server's log has ever seen it.
const byId = (id) => document.getElementById(id);
const [form, outcome, send, password] = ["form", "outcome", "send", "password"].map(byId);
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

function say(kind, text) {
  outcome.className = kind;
  outcome.textContent = text;
}

byId("reveal").addEventListener("change", (event) => {
  password.type = event.target.checked ? "text" : "password";
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  send.disabled = true;
  say("", "One moment…");
  try {
    const response = await fetch("/api/v1/setup", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, user: form.elements.user.value, password: password.value }),
    });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(answer.error.message);
    }
    form.hidden = true;
    byId("lead").textContent = "This installation is set up.";
    say("good", `✓ ${answer.user} is the first operator.`);
  } catch (error) {
    send.disabled = false;
    say("bad", `⚠ Not done: ${error.message}`);
  }
});

if (!token) {
  send.disabled = true;
  say("bad", "⚠ This link is not whole. Open the one that the server printed when it started, with everything behind its #.");
}
