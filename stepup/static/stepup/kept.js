// Sends a kept form by itself after a few seconds, unless the person says to wait. The page works without it.
(() => {
  "use strict";

  const countdown = document.querySelector("[data-stepup-countdown]");
  const form = document.querySelector("[data-stepup-send]");
  if (!countdown || !form) return;

  const status = document.querySelector("[data-stepup-status]");
  const left = countdown.querySelector("[data-stepup-left]");
  const button = form.querySelector("button");
  let seconds = Number(countdown.dataset.stepupCountdown);
  let isSent = false;

  const stop = () => {
    window.clearInterval(clock);
    countdown.hidden = true;
  };

  const tick = () => {
    // What nobody sees is not sent.
    if (document.visibilityState !== "visible") return;
    seconds -= 1;
    left.textContent = String(Math.max(seconds, 0));
    if (seconds <= 0) {
      window.clearInterval(clock);
      form.requestSubmit();
    }
  };

  form.addEventListener("submit", (event) => {
    window.clearInterval(clock);
    if (isSent) event.preventDefault();
    isSent = true;
    button.setAttribute("aria-disabled", "true");
  });

  countdown.querySelector("[data-stepup-stop]").addEventListener("click", () => {
    stop();
    status.textContent = status.dataset.stepupStopped;
    button.focus();
  });

  // Left, or come back to: a page out of the browser's memory sends nothing.
  window.addEventListener("pagehide", stop);

  countdown.hidden = false;
  status.textContent = status.dataset.stepupCounting;
  const clock = window.setInterval(tick, 1000);
})();
