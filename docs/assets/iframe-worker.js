// Search in a page that was opened as a file, where browsers refuse to start workers: the worker's script runs in a
// hidden frame instead, whose window it takes for its own scope. It sends its messages here, and gets those from here.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #scope

    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.#scope = frame.contentWindow
      this.#scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = new Promise(resolve => {
        const script = frame.contentDocument.createElement("script")
        script.src = new URL(url, location.href)
        script.onload = resolve
        frame.contentDocument.head.append(script)
      })
    }

    postMessage(data) {
      this.ready.then(() => this.#scope.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
