;; A component that exports nothing that serves: a command, not a server.
(component
  (instance $run)
  (export "wasi:cli/run@0.2.0" (instance $run)))
