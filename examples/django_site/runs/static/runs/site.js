"use strict";
// What is live on the pages: the run that is watched, durations, local times. Whatever a run has said goes into the page
// as text, never as markup. Without JavaScript the site works as well, but for being live.

(function () {
  // Durations of running runs, counted from what the server has said, whatever this machine's clock shows.
  const loadedAt = performance.now();

  function durationText(seconds) {
    if (seconds < 9.95) return seconds.toFixed(1) + " s";
    const whole = Math.floor(seconds);
    const two = (number) => String(number).padStart(2, "0");
    if (whole < 60) return whole + " s";
    if (whole < 3600) return Math.floor(whole / 60) + " min " + two(whole % 60) + " s";
    return Math.floor(whole / 3600) + " h " + two(Math.floor((whole % 3600) / 60)) + " min";
  }

  // While it counts, there are no tenths.
  function secondsText(seconds) {
    return seconds < 60 ? Math.floor(seconds) + " s" : durationText(seconds);
  }

  function tick() {
    const passed = (performance.now() - loadedAt) / 1000;
    for (const element of document.querySelectorAll("[data-running]")) {
      element.textContent = secondsText(parseFloat(element.dataset.running) + passed);
    }
  }

  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }

  // Two clicks start one run.
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", () => {
      // After the browser has taken what is sent.
      setTimeout(() => { form.querySelector("button[type=submit]").disabled = true; }, 0);
    });
  }
  // A page that comes back from the browser's memory may be out of date, and its buttons are used up.
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  if (document.querySelector("[data-running]")) setInterval(tick, 1000);
  const page = document.getElementById("run");
  if (page && page.dataset.status === "running") watch(page);

  function watch(run) {
    const byId = (id) => document.getElementById(id);
    const log = byId("log");
    let heardAt = null;
    let source = null;

    function hear() {
      heardAt = performance.now();
      byId("connection").hidden = true;
      showHeard();
    }

    function showHeard() {
      if (heardAt === null) return;
      const seconds = Math.floor((performance.now() - heardAt) / 1000);
      byId("heard").textContent = seconds < 2 ? "just now" : secondsText(seconds) + " ago";
    }
    const heardTimer = setInterval(showHeard, 1000);

    // Adds to the last block if it is of the same stream and command: output comes in pieces of any size.
    function add(kind, stream, label, of, text) {
      const isFollowed = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      const last = log.lastElementChild;
      if (of && last && last.dataset.of === of) {
        last.querySelector("pre").append(text);
      } else {
        const block = document.createElement("div");
        block.className = ["event", kind, stream].join(" ").trim();
        block.dataset.of = of;
        if (label) {
          const line = document.createElement("p");
          line.className = "label";
          line.textContent = label;
          block.append(line);
        }
        const pre = document.createElement("pre");
        pre.textContent = text;
        block.append(pre);
        log.append(block);
      }
      byId("nothing").hidden = true;
      if (isFollowed) log.scrollTop = log.scrollHeight;
    }

    const handlers = {
      assistant: (data) => add("assistant", "", "", "", data.text),
      note: (data) => add("note", "", "", "", data.text),
      output: (data) => add("output", data.stream, data.label, data.of, data.text),
      heartbeat: () => {},
      result: (data) => {
        byId("result-text").textContent = data.text;
        byId("result").hidden = !data.text;
      },
      end: (data) => {
        source.close();
        clearInterval(heardTimer);
        run.dataset.status = data.status;
        const status = byId("status");
        status.className = "status " + data.status;
        status.textContent = data.label;
        const elapsed = byId("elapsed");
        delete elapsed.dataset.running;
        elapsed.textContent = durationText(data.seconds);
        byId("pulse").hidden = true;
        byId("reason").textContent = data.reason;
        byId("reason").hidden = !data.reason;
        byId("nothing").textContent = "Nothing was said.";
        const cancel = byId("cancel");
        if (cancel) {
          // Nobody who is at the button with the keyboard is left nowhere.
          const hadFocus = cancel.contains(document.activeElement);
          cancel.remove();
          if (hadFocus) document.getElementById("main").focus();
        }
        const list = byId("artifacts").querySelector("ul");
        list.replaceChildren();
        for (const artifact of data.artifacts) {
          const item = document.createElement("li");
          const link = document.createElement("a");
          link.href = artifact.url;
          link.download = "";
          link.textContent = artifact.name;
          const size = document.createElement("span");
          size.className = "size";
          size.textContent = artifact.size_text;
          item.append(link, " ", size);
          list.append(item);
        }
        byId("artifacts").hidden = data.artifacts.length === 0;
      },
    };

    function connect() {
      source = new EventSource(run.dataset.events);
      for (const [kind, handle] of Object.entries(handlers)) {
        source.addEventListener(kind, (event) => {
          // Without what was shown already, if this browser begins anew.
          if (event.lastEventId) run.dataset.events = run.dataset.events.replace(/after=\d*/, "after=" + event.lastEventId);
          hear();
          handle(JSON.parse(event.data));
        });
      }
      source.addEventListener("open", () => { byId("connection").hidden = true; });
      source.addEventListener("error", () => {
        // A stream ends after a while, and the browser connects again by itself. It does not after an answer such as 502.
        if (source.readyState === EventSource.CLOSED && run.dataset.status === "running") {
          byId("connection").hidden = false;
          setTimeout(connect, 2000);
        } else {
          setTimeout(() => {
            if (source.readyState !== EventSource.OPEN && run.dataset.status === "running") byId("connection").hidden = false;
          }, 3000);
        }
      });
    }

    log.scrollTop = log.scrollHeight;
    connect();
  }
})();
