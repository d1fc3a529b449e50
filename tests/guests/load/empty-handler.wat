;; A component that exports the right name and, under it, nothing.
(component
  (instance $handler)
  (export "rgunicorn:http/handler@0.1.0" (instance $handler)))
