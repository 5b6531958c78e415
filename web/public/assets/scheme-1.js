// Sets light or dark before the first paint. Its name has a number instead of a hash: raise it with every change.
try {
  const chosen = localStorage.getItem('mantine-color-scheme-value') || 'auto'
  const isDark = chosen === 'auto' ? matchMedia('(prefers-color-scheme: dark)').matches : chosen === 'dark'
  document.documentElement.setAttribute('data-mantine-color-scheme', isDark ? 'dark' : 'light')
} catch {
  // without storage the app chooses
}
