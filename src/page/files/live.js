// Follows the server: by server-sent events, or by polling while there are none. It goes on by itself after a restart.

const STREAM = "/overview/events";
const OVERVIEW = "/overview";
const POLL_INTERVAL = 2000;
// The server sends an event every 10 s at least.
const SILENCE = 25000;
// How many polls there are between two attempts to open a stream.
const POLLS_BEFORE_STREAM = 5;

export class Live {
  #show;
  #say;
  #stream = null;
  #timer = null;
  #request = null;
  #polls = 0;
  #tag = null;
  #isRunning = false;

  // `show` is called with each overview, `say` with "live", "polling", "lost" or "paused".
  constructor(show, say) {
    this.#show = show;
    this.#say = say;
  }

  start() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#open();
  }

  stop() {
    this.#isRunning = false;
    this.#close();
    this.#say("paused");
  }

  #close() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#stream?.close();
    this.#stream = null;
  }

  #open() {
    this.#close();
    if (!("EventSource" in window)) return this.#poll();
    const stream = new EventSource(STREAM);
    this.#stream = stream;
    this.#await();
    stream.addEventListener("overview", (event) => {
      if (this.#stream !== stream) return;
      this.#await();
      this.#say("live");
      this.#show(JSON.parse(event.data));
    });
    stream.addEventListener("error", () => {
      if (this.#stream === stream) this.#poll();
    });
  }

  // Polls if no event comes.
  #await() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), SILENCE);
  }

  async #poll() {
    this.#close();
    const request = new AbortController();
    this.#request = request;
    let isAnswered = false;
    try {
      const headers = this.#tag ? { "If-None-Match": this.#tag } : {};
      const signal = AbortSignal.any ? AbortSignal.any([request.signal, AbortSignal.timeout(SILENCE)]) : request.signal;
      const response = await fetch(OVERVIEW, { headers, signal });
      if (response.ok) {
        const overview = await response.json();
        this.#tag = response.headers.get("ETag");
        if (!request.signal.aborted) this.#show(overview);
      }
      isAnswered = response.ok || response.status === 304;
    } catch {
      isAnswered = false;
    }
    if (!this.#isRunning || request.signal.aborted) return;
    const wasLost = this.#say(isAnswered ? "polling" : "lost") === "lost";
    this.#polls = isAnswered ? this.#polls + 1 : 0;
    // After a restart the stream is tried at once.
    const isStreamDue = isAnswered && (wasLost || this.#polls % POLLS_BEFORE_STREAM === 0);
    this.#timer = setTimeout(() => (isStreamDue ? this.#open() : this.#poll()), isStreamDue ? 0 : POLL_INTERVAL);
  }
}
